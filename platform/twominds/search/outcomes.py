"""What a search came to, as its report takes it."""

import statistics
from dataclasses import dataclass, field
from typing import Literal

from twominds.recipes.space import Candidate, SearchSpace
from twominds.search.candidate import SeedResult
from twominds.training.selection import SelectionProtocol
from twominds.training.stopping import StoppingConfig, candidate_score

Status = Literal["finished", "ended", "failed"]
"""It has all its seeds; it was ended before, by a rule; or it can't be trained."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one candidate."""

    candidate: Candidate
    status: Status
    results: tuple[SeedResult, ...]
    """One for each seed that was trained to its end, in the order of the seeds."""
    reason: str = ""
    """Why it was ended or failed, as a sentence."""
    rule: Literal["", "reach", "median"] = ""
    """What ended it: out of the incumbent's reach, or below the median."""
    unfinished_epochs: int = 0
    """Epochs of the seed that was broken off."""
    unfinished_s: float = 0.0
    """Seconds that the seed took that was broken off."""
    unfinished_score: float | None = None
    """The best score so far of the seed that was broken off."""
    began: float
    """Seconds since 1970."""
    over: float
    """When the candidate was over, in seconds since 1970."""

    @property
    def scores(self) -> tuple[float, ...]:
        """The score on what selects, of each seed that is done."""
        return tuple(result.selection_score for result in self.results)

    @property
    def mean(self) -> float:
        """Mean score over the seeds that are done; there must be one."""
        return statistics.fmean(self.scores)

    @property
    def std(self) -> float:
        """Population standard deviation over the seeds that are done."""
        return statistics.pstdev(self.scores)

    @property
    def trained_s(self) -> float:
        """Seconds of training, broken-off seeds included."""
        return sum(result.seconds for result in self.results) + self.unfinished_s

    def score(self, std_penalty: float) -> float:
        """The objective over the seeds that are done: to be compared with others only where these are all."""
        return candidate_score(self.scores, std_penalty)

    def rank(self, std_penalty: float) -> tuple[float, float, float]:
        """What the best of the finished has the most of: score; of equals (small splits have many) less loss; then age.

        No two are equal, so whoever looks for the best finds the one whose models were kept.
        """
        loss = statistics.fmean(result.selection_loss for result in self.results)
        return self.score(std_penalty), -loss, -self.over


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Something that went wrong and that the search survived: a lost worker or node, storage that was full."""

    at: float
    """Seconds since 1970."""
    cause: str
    """A sentence; nothing personal."""


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """A search, whole or as far as it got."""

    recipe: str
    description: str
    score_name: str = "MF1"
    """What people call the metric that candidates are compared by."""
    space: SearchSpace
    given: tuple[str, ...] = ()
    """Dimensions of the space that are not the recipe's, and settings that were fixed, as `num_layers=1,2`."""
    seeds: tuple[int, ...]
    sampler: str
    std_penalty: float
    selected_on: SelectionProtocol
    weights: str
    """`debug` where the embeddings rest on random weights."""
    planned: int
    """Candidates that were asked for."""
    outcomes: tuple[Outcome, ...]
    """In the order in which they were over."""
    incidents: tuple[Incident, ...] = field(default_factory=tuple)
    stopping: StoppingConfig = field(default_factory=lambda: StoppingConfig(risk=0.0))
    """The rules that may end candidates."""
    node_share: float
    """How much of a node one candidate takes while it trains, 0 to 1: an hour of training is that many node-hours."""

    @property
    def finished(self) -> list[Outcome]:
        """Candidates with every seed, the best first."""
        done = [outcome for outcome in self.outcomes if outcome.status == "finished"]
        return sorted(done, key=self.rank, reverse=True)

    def rank(self, outcome: Outcome) -> tuple[float, float, float]:
        """What the best finished candidate has the most of."""
        return outcome.rank(self.std_penalty)
