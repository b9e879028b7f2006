"""What draws the candidates of a search: a plan's own points, and Ray Tune's samplers over the recipe's space."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from ray import tune
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.hyperopt import HyperOptSearch

from twominds.pipelines.search.config import TuningConfig
from twominds.pipelines.search.store import SearchStore
from twominds.pipelines.search.trial import SCORE, Rules, report_of, scores_of_finished
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
    check_candidate,
    grid,
    settings_of,
)


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
