"""The engine of every search: Ray Tune and a sampler over a recipe's space, going on where it was interrupted.

Every start is a new run of Tune over what is left: the store (`search/store.py`) knows which candidates are over, which
the sampler is told of before it draws, and which were begun, which come first. So nothing hangs on Tune's own state,
and a search may be taken up with more candidates, on other nodes, or after a disk was full.
"""

import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from pickle import UnpicklingError
from typing import Any, cast

import pyarrow as pa
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, TuneError, Tuner
from upath import UPath

from twominds.errors import ConfigError, TwomindsError
from twominds.pipelines.cluster import lost_nodes
from twominds.pipelines.search.progress import PROCESS_DIED, SearchProgress, last_line
from twominds.pipelines.search.samplers import CandidateSampler, Packs, tune_space
from twominds.results import tables
from twominds.search.config import TuningConfig
from twominds.search.plan import Plan, points_left, trials_left
from twominds.search.store import SearchStore
from twominds.search.trial import SCORE, Rules, report_of, run_trial, scores_of_finished
from twominds.storage import storage_of, write_whole

MISSED_AFTER_S = 25.0
"""After which Ray has noticed the loss of a node: five checks that fail, three seconds apart, and some more."""

TrainWith = Callable[..., Sequence[Exception | None]]
"""`search.trial.Train`, given the search's parameters by name as well."""


class SearchError(TwomindsError):
    """No candidate of a search was finished."""


def run_trials(
    train: TrainWith,
    parameters: Mapping[str, Any],
    plan: Plan,
    config: TuningConfig,
    rules: Rules,
    store: SearchStore,
    *,
    cpus: int,
) -> None:
    """Runs what is left of a search; prints each candidate as it is over, and leaves its outcome in the store.

    Args:
        train: Trains the candidates of a trial.
        parameters: Given to every trial, through the object store.
        plan: Where the search looks, and how many candidates it tries.
        config: How they are run.
        rules: How they are scored and ended.
        store: Where the search keeps what became of each candidate.
        cpus: Number of CPUs of the cluster.

    Raises:
        ConfigError: a first point is outside of the space, or the space has no grid.
        SearchError: Ray Tune broke off.
    """
    left = trials_left(plan, store)
    if not left:
        return
    outcomes, points = store.outcomes(), points_left(plan, store)
    over = [outcome.candidate for outcome in outcomes]
    finished = scores_of_finished(outcomes)
    known = [(o.candidate, report_of(o, finished, rules.std_penalty)[SCORE]) for o in outcomes]
    progress = SearchProgress(store, plan.space, rules, trials=len(over) + left)
    fixed = {"train": train, "space": plan.space, "store_uri": store.uri, "rules": rules, "cpus": config.cpus_per_trial}
    with_data = cast("Any", tune.with_parameters(run_trial, fixed=fixed, report=cast("Any", tune).report, **parameters))
    resources = {"cpu": config.cpus_per_trial, **({"gpu": config.gpus_per_trial} if config.gpus_per_trial else {})}
    # Tune's own banner, tables and tracebacks: `SearchProgress` prints what a person reads.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    # It would end quietly, as if the search were over: what is trained rests in the store, and Tune need not tidy up.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    tune_s = "tune.tune", "tune.execution.tune_controller", "tune.execution.experiment_state"
    for name in (*tune_s, "train._internal.storage", "train._internal.syncer"):
        logging.getLogger(f"ray.{name}").setLevel(logging.CRITICAL)
    filesystem, folder = storage_of(f"{store.uri}/tune")
    sampler = CandidateSampler(plan.sampler, points, config, known)
    tuner = Tuner(
        cast("Any", tune.with_resources(with_data, resources)),
        param_space=tune_space(plan.space),
        tune_config=TuneConfig(
            metric=SCORE,
            mode="max",
            num_samples=left,
            search_alg=sampler if plan.per_trial == 1 else Packs(sampler, plan, points, store, rules, left=left),
            max_concurrent_trials=_at_a_time(config, cpus),
            time_budget_s=3600 * config.hours or None,
            reuse_actors=True,  # a process takes longer to start than a small candidate to train
        ),
        run_config=RunConfig(
            name=f"{datetime.now(UTC):%Y-%m-%d-%H-%M-%S-%f}",
            storage_path=folder,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=[progress, *mlflow_loggers(config.mlflow, store.uri)],
            verbose=0,
        ),
    )
    # At its end Tune reads files of its own that a full disk may have cut off. What it would say is in the store.
    with _lost_nodes_noted(store), progress, suppress(EOFError, UnpicklingError):
        try:
            tuner.fit()
        except TuneError as error:  # storage was away when Tune's process looked there, say: it wraps a traceback
            raise SearchError(
                f"Ray Tune broke off: {last_line(error)}. What is trained is not lost: run it again."
            ) from error


@contextmanager
def _lost_nodes_noted(store: SearchStore) -> Generator[None]:
    """Tells nodes that are lost meanwhile: of a process that died with its node Ray knows only that it died.

    A node is missed some time after its processes, when the search may be over: where one died that long is waited.
    """
    before, began = lost_nodes(), time.time()
    yield
    died = [incident.at for incident in store.incidents() if PROCESS_DIED in incident.cause and incident.at >= began]
    while died and lost_nodes() == before and time.time() < died[-1] + MISSED_AFTER_S:
        time.sleep(1)
    for _ in range(lost_nodes() - before):
        store.note("A node of the cluster was lost; what it was training was trained elsewhere.")


def _at_a_time(config: TuningConfig, cpus: int) -> int:
    return config.concurrency or max(1, int(cpus / config.cpus_per_trial))


def mlflow_loggers(uri: str, experiment: str) -> list[Callback]:
    """Tune's own logger to MLflow, where it is asked for.

    Raises:
        ConfigError: mlflow is not installed, or does not take the URI.
    """
    if not uri:
        return []
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    try:
        callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=experiment)
        refused: type[Exception] = import_module("mlflow.exceptions").MlflowException
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"--mlflow needs the package mlflow, which is not installed ({error}).") from error
    try:
        callback.setup()  # as Tune will, but before anything is trained
    except refused as error:
        raise ConfigError(f"MLflow can't be told of candidates at {uri}: {error}") from error
    return [callback]


def write_trials(run_uri: str, rows: list[dict[str, Any]]) -> None:
    """Keeps what every candidate came to, for whoever wants to look closer: `trials.parquet`."""
    write_whole(UPath(run_uri) / "trials.parquet", tables.to_parquet(pa.Table.from_pylist(rows)))
