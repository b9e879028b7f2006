"""When a candidate of a stability search may be ended before its last seed, because it can't win any more.

A candidate is scored by its mean macro F1 over n seeds. After k of them it is compared with the incumbent, the best
candidate that has all n, on the same k seeds: means over different seeds are never compared as equals.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from twominds.errors import ConfigError

MEDIAN_OF_AT_LEAST = 5
"""Trainings that the median rule wants to have seen with the same seed before it ends any."""


@dataclass(frozen=True, kw_only=True)
class StoppingConfig:
    """When candidates are ended early. What is ended is no rival for the winner, whatever its mean so far."""

    risk: float = 0.05
    """Probability, for a candidate that would have won, that it is ended all the same (`out_of_reach`); 0: never. It is
    asked after each seed: where all train at once, on a GPU, none is ended by this."""
    median_after: int = 0
    """Epochs of a seed after which a candidate below the median of the others is ended (`below_median`); 0: never.
    Asked after every epoch, it ends half of the candidates and more: slow starters go, too."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if not 0 <= self.risk < 0.5:
            raise ConfigError(f"risk must be in [0, 0.5), got {self.risk}.")
        if self.median_after < 0:
            raise ConfigError(f"median_after must be 0 or more, got {self.median_after}.")


def candidate_score(scores: Sequence[float], std_penalty: float) -> float:
    """Mean minus `std_penalty` times the population standard deviation over the seeds."""
    return statistics.fmean(scores) - (std_penalty * statistics.pstdev(scores) if std_penalty else 0.0)


def comparable(scores: Sequence[float], finished: Sequence[Sequence[float]], std_penalty: float) -> float:
    """What the objective of a candidate with its first k seeds is expected to be with all of them.

    Its objective so far, plus what the remaining seeds added to the finished candidates on average: some seeds are
    easier than others, and one seed has no spread. This is what a sampler gets to hear; it never makes a winner.
    """
    known = len(scores)
    shifts = [candidate_score(other, std_penalty) - candidate_score(other[:known], std_penalty) for other in finished]
    return candidate_score(scores, std_penalty) + (statistics.fmean(shifts) if shifts else 0.0)


def out_of_reach(
    scores: Sequence[float], finished: Sequence[Sequence[float]], *, risk: float, std_penalty: float = 0.0
) -> bool:
    """Whether a candidate is no longer expected to reach the best finished one: a paired prediction test.

    Let d_1..d_k be the candidate's scores minus the incumbent's on the same k seeds, and D the mean difference that all
    n seeds will show. If the differences vary with standard deviation s from seed to seed, then D - mean(d) has mean 0
    and standard deviation s sqrt(1/k - 1/n), since k of its n terms are known. The candidate is ended where

        mean(d) + t(1 - a_k, v) s sqrt(1/k - 1/n) < -std_penalty std(incumbent).

    a_k are the `levels` of its n - 1 looks. s combines the differences from the incumbent of the finished
    candidates and of this one, v being their n - 1 and k - 1 degrees of freedom together. A candidate's own standard
    deviation is taken for 0 on the right, the best that can happen to it.

    Args:
        scores: Of the candidate, for the first k seeds, in the order of the seeds.
        finished: Of every candidate with all n seeds, in the same order.
        risk: Probability of ending a candidate that would have reached the incumbent. 0: never.
        std_penalty: What a standard deviation costs in the search's objective.

    Returns:
        False also while nothing is known of s: with fewer than two finished candidates, or after the last seed.
    """
    if not risk or not scores or len(finished) < 2:
        return False
    incumbent = max(finished, key=lambda other: candidate_score(other, std_penalty))
    seeds, done = len(incumbent), len(scores)
    if done >= seeds:
        return False
    differences = _differences(scores, incumbent)
    known = [differences, *(_differences(other, incumbent) for other in finished if other is not incumbent)]
    freedom = sum(len(several) - 1 for several in known)
    squares = sum(float(np.var(several)) * len(several) for several in known)
    quantile = float(special.stdtrit(freedom, 1 - levels(seeds, risk)[done - 1]))  # of Student's t
    best = statistics.fmean(differences) + quantile * math.sqrt(squares / freedom * (1 / done - 1 / seeds))
    return best < -std_penalty * statistics.pstdev(incumbent)


@cache
def levels(seeds: int, risk: float) -> tuple[float, ...]:
    """The level of the look after each seed but the last: together they end a candidate with probability `risk`.

    That is for one that ties with the incumbent in the end (D = 0), the worst of those that are not beaten. A look's
    level is in proportion to the seeds that an end would save. Looks at the same differences resemble each other, so
    that they may have more than their sum allows: c of a_k = c w_k is the risk-quantile of min_k p_k / w_k over the
    p-values p_k of 200 000 drawn candidates whose differences are normal.

    Args:
        seeds: n, the number of seeds of every candidate.
        risk: Probability of a wrong end over all looks together.
    """
    looks = np.arange(1, seeds)
    weights = (seeds - looks) / (seeds - looks).sum()
    differences = np.random.default_rng(0).standard_normal((200_000, seeds))
    differences -= differences.mean(axis=1, keepdims=True)
    means = differences.cumsum(axis=1)[:, :-1] / looks
    p_values = special.ndtr(means / np.sqrt(1 / looks - 1 / seeds))
    scale = float(np.quantile((p_values / weights).min(axis=1), risk))
    return tuple(float(level) for level in scale * weights)


def below_median(curve: Sequence[float], others: Sequence[Sequence[float]], *, after: int) -> bool:
    """Whether a training is below the median of the others with the same seed, at the same epoch.

    Vizier's median stopping rule (Golovin et al., 2017), on the best score so far. A training that ended before this
    epoch stands there with its best.

    Args:
        curve: Best score up to each epoch so far.
        others: The same of other candidates' trainings.
        after: Epochs before which nothing is ended; 0: never.
    """
    epoch = len(curve)
    if not after or epoch < after or len(others) < MEDIAN_OF_AT_LEAST:
        return False
    return curve[-1] < statistics.median(other[min(epoch, len(other)) - 1] for other in others)


def _differences(scores: Sequence[float], incumbent: Sequence[float]) -> list[float]:
    return [own - best for own, best in zip(scores, incumbent, strict=False)]
