"""What a search cost, and what ending candidates early saved it.

What was saved is an estimate: nobody trained the seeds that are missing.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twominds.search.outcomes import Outcome, SearchResults, Status

STATUSES: tuple[Status, ...] = ("finished", "ended", "failed")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the candidates of one status took."""

    candidates: int
    seeds: int
    """Trained to their end."""
    node_hours: float


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The candidates that one rule ended after the same number of seeds."""

    seeds_done: int
    rule: str
    """`reach`, `median`, or empty: something else."""
    candidates: int
    seeds_saved: int
    """That were not trained to their end."""
    node_hours_saved: float
    """Estimate, of the candidates that allow one."""
    unknown: int
    """Candidates that allow none."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The accounts of a search."""

    spent: dict[Status, Spent]
    endings: tuple[Ending, ...]
    """Fewest seeds first."""

    @property
    def node_hours(self) -> float:
        """All that was trained."""
        return sum(spent.node_hours for spent in self.spent.values())

    @property
    def node_hours_saved(self) -> float:
        """By ending candidates early: an estimate."""
        return sum(ending.node_hours_saved for ending in self.endings)

    @property
    def seeds_saved(self) -> int:
        """How many seeds were not trained because candidates were ended early."""
        return sum(ending.seeds_saved for ending in self.endings)

    @property
    def unknown(self) -> int:
        """Ended candidates of which nobody can say what they would have cost."""
        return sum(ending.unknown for ending in self.endings)


def search_costs(results: SearchResults) -> Costs:
    """The accounts of a search, whole or as far as it got."""
    spent: dict[Status, Spent] = {
        status: _spent([o for o in results.outcomes if o.status == status], results) for status in STATUSES
    }
    return Costs(spent=spent, endings=tuple(_endings(results)))


def node_hours(seconds: float, node_share: float) -> float:
    """Node-hours of a training of so many seconds on a share of a node."""
    return seconds * node_share / 3600


def saved_s(outcome: Outcome, results: SearchResults) -> float | None:
    """Seconds that the missing seeds of an ended candidate would have taken: an estimate.

    One seed is taken for as long as the candidate's finished seeds were on average. Where it has none, for as many
    epochs as finished candidates' seeds have at the median, each as long as this candidate's own. What the seed that
    was broken off had already taken is not saved.

    Returns:
        None where nothing tells how long a seed is: the candidate trained no epoch, or no candidate is finished.
    """
    if outcome.results:
        seed_s = statistics.fmean(result.seconds for result in outcome.results)
    else:
        epochs = [result.epochs for other in results.finished for result in other.results]
        if not epochs or not outcome.unfinished_epochs:
            return None
        seed_s = outcome.unfinished_s / outcome.unfinished_epochs * statistics.median(epochs)
    missing = len(results.seeds) - len(outcome.results)
    return max(0.0, seed_s - outcome.unfinished_s) + (missing - 1) * seed_s if missing > 0 else 0.0


def _spent(outcomes: Sequence[Outcome], results: SearchResults) -> Spent:
    return Spent(
        candidates=len(outcomes),
        seeds=sum(len(outcome.results) for outcome in outcomes),
        node_hours=node_hours(sum(outcome.trained_s for outcome in outcomes), results.node_share),
    )


def _endings(results: SearchResults) -> Iterator[Ending]:
    ended = [outcome for outcome in results.outcomes if outcome.status == "ended"]
    for seeds_done, rule in sorted({(len(outcome.results), outcome.rule) for outcome in ended}):
        group = [outcome for outcome in ended if (len(outcome.results), outcome.rule) == (seeds_done, rule)]
        saved = [saved_s(outcome, results) for outcome in group]
        known = [seconds for seconds in saved if seconds is not None]
        yield Ending(
            seeds_done=seeds_done,
            rule=rule,
            candidates=len(group),
            seeds_saved=(len(results.seeds) - seeds_done) * len(group),
            node_hours_saved=node_hours(sum(known), results.node_share),
            unknown=len(saved) - len(known),
        )
