"""Which candidates a search tries, and which of them it has not tried yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twominds.recipes.space import Candidate, Sampler, SearchSpace, Value, check_candidate, grid, size
from twominds.search.store import SearchStore


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where a search looks, what it tries first, and how many candidates it tries."""

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

    def of_what_there_is(self) -> "Plan":
        """This plan; but where the space has no more candidates than it tries, each of these once."""
        candidates = size(self.space)
        return self if candidates > self.trials else replace(self, sampler="grid", trials=int(candidates))

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


def trials_left(plan: Plan, store: SearchStore) -> int:
    """How many candidates a start would still try: without any it needs no cluster."""
    most = len(points_left(plan, store)) if plan.sampler == "grid" else plan.trials
    return max(0, min(plan.trials - len(store.outcomes()), most))


def points_left(plan: Plan, store: SearchStore) -> list[Candidate]:
    """What comes before any draw: what was begun, and the plan's own points."""
    begun, over = store.unfinished(), [outcome.candidate for outcome in store.outcomes()]
    return [point for point in [*begun, *(p for p in plan.points() if p not in begun)] if point not in over]
