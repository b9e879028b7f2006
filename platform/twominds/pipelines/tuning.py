"""The engine of every search: Ray Tune and a sampler over a recipe's space, going on where it was interrupted."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from ray import tune
from ray.tune import FailureConfig, ResultGrid, RunConfig, TuneConfig, Tuner
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from upath import UPath

from twominds.errors import TwomindsError
from twominds.pipelines.progress import SearchProgress
from twominds.pipelines.storage import storage_of
from twominds.recipes.space import (
    Candidate,
    Choice,
    Dimension,
    LogUniform,
    Sampler,
    SearchSpace,
    Value,
    check_candidate,
    grid,
)

SCORE = "score"
"""What a trial reports, and the best candidate has the most of."""


class SearchError(TwomindsError):
    """No candidate of a search was finished."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How candidates are drawn and run, in every search."""

    random_starts: int = 20
    """Candidates that are drawn at random before TPE begins."""
    sampler_seed: int = 0
    """Seed of the sampler."""
    concurrency: int = 0
    """Candidates at a time; 0: one per CPU."""
    gpus_per_trial: float = 0.0
    """GPU share of each trial."""
    max_failures: int = 2
    """How often a trial that dies is started again."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""

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
    trainable: Callable[..., None],
    parameters: Mapping[str, Any],
    plan: Plan,
    config: TuningConfig,
    *,
    seeds: int,
    run_uri: str,
    cpus: int,
) -> ResultGrid:
    """Runs (or goes on with) the search whose state is in `run_uri`; prints each candidate as it is done.

    Args:
        trainable: Called with Tune's settings of a candidate (`candidate_of` reads them) and the parameters; reports
            `SCORE` and what `SearchProgress` prints.
        parameters: Given to every trial, through the object store.
        plan: The candidates.
        config: How they are run.
        seeds: Trainings of each candidate.
        run_uri: Folder of this search.
        cpus: Of the cluster.

    Raises:
        ConfigError: a first point is outside of the space, or the space has no grid.
    """
    # Seconds between snapshots of the search: what a killed driver can lose of the sampler's memory.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own banner; `SearchProgress` prints what a person reads
    with_data = cast("Any", tune.with_parameters(trainable, **parameters))
    resources = {"cpu": 1.0, **({"gpu": config.gpus_per_trial} if config.gpus_per_trial else {})}
    with_resources = cast("Any", tune.with_resources(with_data, resources))
    filesystem, path = storage_of(f"{run_uri}/tune")
    if can_resume(f"{run_uri}/tune"):
        return Tuner.restore(
            path, trainable=with_resources, storage_filesystem=filesystem, resume_unfinished=True
        ).fit()
    points = plan.points()
    trials = len(points) if plan.sampler == "grid" else plan.trials
    tuner = Tuner(
        with_resources,
        param_space=tune_space(plan.space),
        tune_config=TuneConfig(
            metric=SCORE,
            mode="max",
            num_samples=trials,
            search_alg=make_sampler(plan.sampler, points, config),
            # Others limit themselves: Tune would ignore it, with a warning.
            max_concurrent_trials=(config.concurrency or cpus) if plan.sampler == "hyperopt" else None,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=storage_of(run_uri)[1],
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=[SearchProgress(trials=trials, seeds=seeds, run_uri=run_uri)],
            verbose=0,
        ),
    )
    return tuner.fit()


def can_resume(tune_uri: str) -> bool:
    """Whether a search can go on from here: Tune also wants a snapshot, not only its description of the search."""
    folder = UPath(tune_uri)
    return folder.exists() and (folder / "tuner.pkl").exists() and any(folder.glob("experiment_state-*.json"))


def make_sampler(
    sampler: Sampler, points: Sequence[Candidate], config: TuningConfig
) -> Searcher | BasicVariantGenerator:
    """What draws the candidates, after these first ones; of a grid they are all that there are."""
    known = [{name: _in_tune(value) for name, value in point.items()} for point in points]
    if sampler == "hyperopt":
        return HyperOptSearch(
            points_to_evaluate=known, n_initial_points=config.random_starts, random_state_seed=config.sampler_seed
        )
    return BasicVariantGenerator(
        points_to_evaluate=known, max_concurrent=config.concurrency, random_state=config.sampler_seed
    )


def tune_space(space: SearchSpace) -> dict[str, Any]:
    """The search space in Ray Tune's words."""
    return {name: _domain(dimension) for name, dimension in space.items()}


def candidate_of(settings: Mapping[str, Any], space: SearchSpace) -> Candidate:
    """A candidate in the recipe's words, from what Tune gives a trial.

    Raises:
        ConfigError: it is outside of the space.
    """
    candidate = dict(settings)
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            tuples = {str(value): value for value in dimension.values if isinstance(value, tuple)}
            candidate[name] = tuples.get(settings[name], settings[name])
    check_candidate(candidate, space)
    return candidate


def _in_tune(value: Value) -> str | int | float | bool:
    """Tuples go as text: Tune takes those of a first point apart, and HyperOpt does not find them."""
    return str(value) if isinstance(value, tuple) else value


def _domain(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return tune.choice([_in_tune(value) for value in dimension.values])
    if isinstance(dimension, LogUniform):
        return tune.loguniform(dimension.low, dimension.high)
    return tune.uniform(dimension.low, dimension.high)


def write_trials(run_uri: str, rows: list[dict[str, Any]]) -> None:
    """Keeps what every finished candidate came to, for whoever wants to look closer: `trials.parquet`."""
    with (UPath(run_uri) / "trials.parquet").open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), cast("Any", file))
