"""What draws the candidates of a search, beside the plan's own points: Ray Tune's samplers over the recipe's space."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from hyperopt import rand
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.hyperopt import HyperOptSearch

from twominds.recipes.space import (
    CANDIDATES,
    Candidate,
    Choice,
    Dimension,
    LogUniform,
    Sampler,
    SearchSpace,
    as_setting,
    candidate_of,
    settings_of,
)
from twominds.search.config import TuningConfig
from twominds.search.plan import Plan
from twominds.search.store import SearchStore
from twominds.search.trial import SCORE, Rules, report_of, scores_of_finished

REDRAWS = 1000
"""Draws of something known after which nothing new is expected."""


class CandidateSampler(HyperOptSearch):
    """HyperOpt's TPE or random search. It knows the candidates of earlier starts, and draws none twice."""

    def __init__(
        self,
        sampler: Sampler,
        points: Sequence[Candidate],
        config: TuningConfig,
        known: Sequence[tuple[Candidate, float]] = (),
    ) -> None:
        """Takes how to draw, and what is not drawn.

        Args:
            sampler: What draws; of a grid the points are all that there are.
            points: Candidates that are tried first.
            config: The settings of the search.
            known: Candidates that are over with their scores; one without a score (nan) is an error to TPE.
        """
        self._known = [score for _, score in known]
        self._drawn: set[frozenset[tuple[str, Any]]] = set()
        super().__init__(
            points_to_evaluate=[settings_of(candidate) for candidate in [*(c for c, _ in known), *points]],
            n_initial_points=config.random_starts if sampler == "hyperopt" else sys.maxsize,
            random_state_seed=_seed(config, len(known) + len(points)),
        )

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """See `Searcher`."""
        is_new = super().set_search_properties(metric, mode, config, **spec)
        for number, score in enumerate(self._known if is_new else ()):
            self.suggest(f"known-{number}")  # its first points, in their order
            self.on_trial_complete(f"known-{number}", {SCORE: score})
        return is_new

    def suggest(self, trial_id: str, like: str = "", shared: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """See `Searcher`. Where TPE would draw something again, it is drawn at random.

        Args:
            trial_id: What the candidate is to be known as.
            like: Another that is under way.
            shared: Settings of that one, which this one is given.
        """
        algorithm: Any = cast("Any", self).algo
        try:
            for _ in range(REDRAWS):
                drawn = cast("dict[str, Any]", super().suggest(trial_id))
                if shared:
                    drawn |= shared
                    others = self._values(like)
                    self._values(trial_id).update({name: list(others[name]) for name in shared})
                settings = frozenset(drawn.items())
                if settings not in self._drawn:
                    self._drawn.add(settings)
                    return drawn
                super().on_trial_complete(trial_id, error=True)  # HyperOpt forgets it
                self.algo = rand.suggest
        finally:
            self.algo = algorithm
        return cast("None", Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`."""
        scored = result is not None and not math.isnan(result.get(SCORE, math.nan))
        super().on_trial_complete(trial_id, result if scored else None, error or not scored)

    def _values(self, trial_id: str) -> dict[str, list[Any]]:
        """A candidate as HyperOpt keeps it, which is what TPE goes by."""
        return cast("Any", self)._get_hyperopt_trial(trial_id)["misc"]["vals"]


class Packs(Searcher):
    """Draws several candidates for each trial, which share what gives a model its shape.

    The first of a trial is TPE's own; the others are drawn like it, and then given its shared settings. TPE hears of
    each what it came to.
    """

    def __init__(
        self,
        sampler: CandidateSampler,
        plan: Plan,
        points: Sequence[Candidate],
        store: SearchStore,
        rules: Rules,
        *,
        left: int,
    ) -> None:
        """Takes what draws, the first candidates that it was given, the search, and how many there are to try."""
        super().__init__()
        self._sampler, self._plan, self._store, self._rules = sampler, plan, store, rules
        self._points, self._left = list(points), left
        self._drawn: dict[str, list[Candidate]] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """See `Searcher`."""
        self._metric, self._mode = metric, mode
        return self._sampler.set_search_properties(metric, mode, config, **spec)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """See `Searcher`."""
        if not self._left:
            return cast("None", Searcher.FINISHED)
        first = self._sampler.suggest(f"{trial_id}/0")
        if not isinstance(first, dict):  # there is nothing new any more
            return first
        shared = {name: first[name] for name in self._plan.shared}
        pack, point = [first], self._points.pop(0) if self._points else None
        while len(pack) < min(self._plan.per_trial, self._left):
            if point is not None and self._points:
                # What comes next is no draw. It is as it is, and begins a trial of its own if it is of another shape.
                if any(settings_of(self._points[0])[name] != value for name, value in shared.items()):
                    break
                point = self._points.pop(0)
            drawn = self._sampler.suggest(f"{trial_id}/{len(pack)}", f"{trial_id}/0", shared)
            if not isinstance(drawn, dict):
                break
            pack.append(drawn)
        self._left -= len(pack)
        self._drawn[trial_id] = [candidate_of(settings, self._plan.space) for settings in pack]
        return {CANDIDATES: pack}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See `Searcher`; what each candidate came to is in the store."""
        finished = scores_of_finished(self._store.outcomes())
        for number, candidate in enumerate(self._drawn.pop(trial_id, [])):
            outcome = self._store.outcome(candidate)
            report = None if outcome is None else report_of(outcome, finished, self._rules.std_penalty)
            self._sampler.on_trial_complete(f"{trial_id}/{number}", report, error=report is None)

    def save(self, checkpoint_path: str) -> None:
        """See `Searcher`; nobody restores it: every start of a search is a new run."""
        self._sampler.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """See `Searcher`."""
        self._sampler.restore(checkpoint_path)


def _seed(config: TuningConfig, known: int) -> int:
    """Another for each start: the same would draw the same candidates again.

    Args:
        config: The settings of the search.
        known: How many candidates it does not draw: what is over, was begun, or comes first.
    """
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
