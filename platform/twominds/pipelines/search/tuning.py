"""The engine of every search: Ray Tune and a sampler over a recipe's space, going on where it was interrupted.

Every start is a new run of Tune over what is left: the store (`store.py`) knows which candidates are over, which
the sampler is told of before it draws, and which were begun, which come first. So nothing hangs on Tune's own state,
and a search may be taken up with more candidates, on other nodes, or after a disk was full.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from upath import UPath

from twominds.errors import ConfigError, TwomindsError
from twominds.pipelines.cluster import lost_nodes
from twominds.pipelines.search.progress import PROCESS_DIED, SearchProgress
from twominds.pipelines.search.store import SearchStore
from twominds.pipelines.search.trial import SCORE, Rules, report_of, scores_of_finished, try_candidates
from twominds.pipelines.storage import storage_of
from twominds.recipes.space import (
    CANDIDATES,
    Candidate,
    Choice,
    Dimension,
    LogUniform,
    Sampler,
    SearchSpace,
    Value,
    as_setting,
    candidate_of,
    candidates_of,
    check_candidate,
    grid,
    settings_of,
)

MISSED_AFTER_S = 25.0
"""After which Ray has noticed the loss of a node: five checks that fail, three seconds apart, and some more."""

TrainWith = Callable[..., Sequence[Exception | None]]
"""`trial.Train`, given the search's parameters by name as well."""


class SearchError(TwomindsError):
    """No candidate of a search was finished."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How candidates are drawn and run, in every search."""

    space: tuple[str, ...] = ()
    """Settings that are searched elsewhere than the recipe says: `num_layers=1,2` (these values), `batch_size=16` (only
    this), `learning_rate=1e-4..1e-3` (a range; logarithmic where the recipe's is, or as `log:1e-4..1e-3`)."""
    random_starts: int = 20
    """Candidates that are drawn at random before TPE begins."""
    sampler_seed: int = 0
    """Seed of the sampler."""
    concurrency: int = 0
    """Candidates at a time; 0: as many as the cluster has room for."""
    cpus_per_trial: float = 1.0
    """CPUs of each candidate, and its threads. Small models are fastest with one."""
    gpus_per_trial: float = 0.0
    """GPU share of each candidate."""
    hours: float = 0.0
    """What this start may take; what is unfinished then is gone on with by the next. 0: as long as it takes."""
    max_failures: int = 2
    """How often a candidate whose process dies is started again."""
    mlflow: str = ""
    """Tracking URI of an MLflow server or database (`sqlite:///mlflow.db`) that is told of every candidate; needs the
    package mlflow."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        least = {"random_starts": 0, "concurrency": 0, "gpus_per_trial": 0, "hours": 0, "max_failures": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} must be {lowest} or more, got {getattr(self, name)}.")
        if self.cpus_per_trial <= 0:
            raise ConfigError(f"cpus_per_trial must be above 0, got {self.cpus_per_trial}.")

    @property
    def device(self) -> str:
        """Where a trial trains."""
        return "cuda" if self.gpus_per_trial else "cpu"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which candidates a search tries."""

    space: SearchSpace
    first_points: Sequence[Mapping[str, Value]]
    """Tried before the sampler's own."""
    sampler: Sampler
    trials: int
    """How many; of a grid at most all."""
    per_trial: int = 1
    """Candidates that one trial trains together."""
    shared: tuple[str, ...] = ()
    """Settings in which these may not differ."""

    def points(self) -> list[Candidate]:
        """The candidates that are known beforehand: the first ones, and of a grid the others too.

        Raises:
            ConfigError: one is outside of the space, or the space has no grid.
        """
        points = [dict(point) for point in self.first_points][: self.trials]
        for point in points:
            check_candidate(point, self.space)
        if self.sampler == "grid":
            points += [point for point in grid(self.space) if point not in points]
        return points[: self.trials]


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
        plan: The candidates.
        config: How they are run.
        rules: How they are scored and ended.
        store: The search.
        cpus: Of the cluster.

    Raises:
        ConfigError: a first point is outside of the space, or the space has no grid.
    """
    outcomes, begun = store.outcomes(), store.unfinished()
    over = [outcome.candidate for outcome in outcomes]
    points = [point for point in [*begun, *(p for p in plan.points() if p not in begun)] if point not in over]
    left = max(0, min(plan.trials - len(over), len(points) if plan.sampler == "grid" else plan.trials))
    if not left:
        return
    finished = scores_of_finished(outcomes)
    known = [(o.candidate, report_of(o, finished, rules.std_penalty)[SCORE]) for o in outcomes]
    progress = SearchProgress(store, plan.space, rules, trials=len(over) + left)
    fixed = {"train": train, "space": plan.space, "store_uri": store.uri, "rules": rules, "cpus": config.cpus_per_trial}
    with_data = cast("Any", tune.with_parameters(_trial, fixed=fixed, **parameters))
    resources = {"cpu": config.cpus_per_trial, **({"gpu": config.gpus_per_trial} if config.gpus_per_trial else {})}
    # Tune's own banner, tables and tracebacks: `SearchProgress` prints what a person reads.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    for name in ("tune", "execution.tune_controller", "execution.experiment_state"):
        logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)
    filesystem, folder = storage_of(f"{store.uri}/tune")
    if plan.per_trial > 1:
        # All starts at random: TPE as random search.
        tpe = Tpe(points, config if plan.sampler == "hyperopt" else replace(config, random_starts=plan.trials), known)
        sampler = Packs(tpe, plan, points, store, rules, left=left)
    else:
        sampler = make_sampler(plan.sampler, points, config, known)
    tuner = Tuner(
        cast("Any", tune.with_resources(with_data, resources)),
        param_space=tune_space(plan.space),
        tune_config=TuneConfig(
            metric=SCORE,
            mode="max",
            num_samples=left,
            search_alg=sampler,
            # Others limit themselves: Tune would ignore it, with a warning.
            max_concurrent_trials=_at_a_time(config, cpus) if isinstance(sampler, Searcher) else None,
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
        tuner.fit()


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


def _trial(settings: dict[str, Any], *, fixed: dict[str, Any], **parameters: Any) -> None:
    """Runs in a process of Tune's."""
    torch.set_num_threads(max(1, int(fixed["cpus"])))
    store = SearchStore(fixed["store_uri"])
    candidates = candidates_of(settings, fixed["space"])
    try_candidates(partial(fixed["train"], **parameters), candidates, store, fixed["rules"], cast("Any", tune).report)


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


class Tpe(HyperOptSearch):
    """HyperOpt's TPE, told of the candidates of earlier starts; what has no score is an error to it."""

    def __init__(
        self, points: Sequence[Candidate], config: TuningConfig, known: Sequence[tuple[Candidate, float]]
    ) -> None:
        """Takes the candidates to try first, the settings, and the candidates of earlier starts with their scores."""
        self._known = [score for _, score in known]
        super().__init__(
            points_to_evaluate=[settings_of(candidate) for candidate in [*(c for c, _ in known), *points]],
            n_initial_points=config.random_starts,
            random_state_seed=_seed(config, len(known) + len(points)),
        )

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """See `Searcher`."""
        is_new = super().set_search_properties(metric, mode, config, **spec)
        for number, score in enumerate(self._known if is_new else ()):
            self.suggest(f"known-{number}")  # its first points, in their order
            self.on_trial_complete(f"known-{number}", {SCORE: score})
        return is_new

    def suggest_like(self, trial_id: str, other_id: str, shared: Sequence[str]) -> dict[str, Any]:
        """Draws another, and gives it the `shared` settings of a candidate that is under way; knows it as that."""
        drawn = cast("dict[str, Any]", self.suggest(trial_id))
        under_way: Any = cast("Any", self)._live_trial_mapping  # HyperOpt's documents, which are what TPE goes by
        values, others = (under_way[known][1]["misc"]["vals"] for known in (trial_id, other_id))
        values.update({name: list(others[name]) for name in shared})
        return drawn

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`."""
        scored = result is not None and not math.isnan(result.get(SCORE, math.nan))
        super().on_trial_complete(trial_id, result if scored else None, error or not scored)


class Packs(Searcher):
    """Draws several candidates for each trial, which share what gives a model its shape.

    The first of a trial is TPE's own; the others are drawn like it, and then given its shared settings. TPE hears of
    each what it came to.
    """

    def __init__(
        self, tpe: Tpe, plan: Plan, points: Sequence[Candidate], store: SearchStore, rules: Rules, *, left: int
    ) -> None:
        """Takes what draws, the first candidates that it was given, the search, and how many there are to try."""
        super().__init__()
        self._tpe, self._plan, self._store, self._rules = tpe, plan, store, rules
        self._points, self._left = list(points), left
        self._drawn: dict[str, list[Candidate]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """See `Searcher`."""
        self._metric, self._mode = metric, mode
        return self._tpe.set_search_properties(metric, mode, config, **spec)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """See `Searcher`."""
        if not self._left:
            return cast("None", Searcher.FINISHED)
        first = cast("dict[str, Any]", self._tpe.suggest(f"{trial_id}/0"))
        shared = {name: first[name] for name in self._plan.shared}
        pack, point = [first], self._points.pop(0) if self._points else None
        while len(pack) < min(self._plan.per_trial, self._left):
            if point is not None and self._points:
                # What comes next is no draw. It is as it is, and begins a trial of its own if it is of another shape.
                if any(settings_of(self._points[0])[name] != value for name, value in shared.items()):
                    break
                point = self._points.pop(0)
            pack.append(self._tpe.suggest_like(f"{trial_id}/{len(pack)}", f"{trial_id}/0", self._plan.shared) | shared)
        self._left -= len(pack)
        self._drawn[trial_id] = [candidate_of(settings, self._plan.space) for settings in pack]
        return {CANDIDATES: pack}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`; what each candidate came to is in the store."""
        finished = scores_of_finished(self._store.outcomes())
        for number, candidate in enumerate(self._drawn.pop(trial_id, [])):
            outcome = self._store.outcome(candidate)
            report = None if outcome is None else report_of(outcome, finished, self._rules.std_penalty)
            self._tpe.on_trial_complete(f"{trial_id}/{number}", report, error=report is None)

    def save(self, checkpoint_path: str) -> None:
        """See `Searcher`; nobody restores it: every start of a search is a new run."""
        self._tpe.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """See `Searcher`."""
        self._tpe.restore(checkpoint_path)


def make_sampler(
    sampler: Sampler,
    points: Sequence[Candidate],
    config: TuningConfig,
    known: Sequence[tuple[Candidate, float]] = (),
) -> Searcher | BasicVariantGenerator:
    """What draws the candidates, after these first ones; of a grid they are all that there are.

    Args:
        sampler: Which.
        points: To be tried first.
        config: Its settings.
        known: Candidates of earlier starts with their scores, which are not tried again.
    """
    if sampler == "hyperopt":
        return Tpe(points, config, known)
    return BasicVariantGenerator(
        points_to_evaluate=[settings_of(point) for point in points],
        max_concurrent=config.concurrency,
        random_state=_seed(config, len(known)),
    )


def _seed(config: TuningConfig, known: int) -> int:
    """Another for each start: the same would draw the same candidates again."""
    if not known:
        return config.sampler_seed
    return int(np.random.SeedSequence([config.sampler_seed, known]).generate_state(1)[0])


def tune_space(space: SearchSpace) -> dict[str, Any]:
    """The search space in Ray Tune's words."""
    return {name: _domain(dimension) for name, dimension in space.items()}


def _domain(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return tune.choice([as_setting(value) for value in dimension.values])
    if isinstance(dimension, LogUniform):
        return tune.loguniform(dimension.low, dimension.high)
    return tune.uniform(dimension.low, dimension.high)


def write_trials(run_uri: str, rows: list[dict[str, Any]]) -> None:
    """Keeps what every candidate came to, for whoever wants to look closer: `trials.parquet`."""
    with (UPath(run_uri) / "trials.parquet").open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), cast("Any", file))
