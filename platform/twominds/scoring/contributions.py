"""What a score is made of: the exact Shapley value of each modality, and the two that pull in opposite directions.

A fusion model masks what is absent, so that it can be asked about every subset S of the present modalities. v(S) is
what the ensemble then says: calibrated log-odds, or intensities; v of nothing is what the training labels say. Shapley
values (1953) are the one way to share v(all) - v(nothing) that is fair: they add up to it, a modality that changes
nothing has zero, and two that change the same have the same.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
import numpy.typing as npt

from twominds.records import BoolArray, Contributions, Modality

Array = npt.NDArray[np.float64]

_CERTAIN = 1e-12
"""Probabilities nearer than this to 0 or 1 have the log-odds of this."""


def shapley_values(values: Array) -> Array:
    """Shapley value of each of M players: values [2^M, ...] -> [M, ...].

    Args:
        values: What each coalition comes to; player i is in coalition c where bit i of c is set.
    """
    players = _players(values)
    found = np.zeros((players, *values.shape[1:]))
    for coalition in range(1 << players):
        size = coalition.bit_count()
        for player in range(players):
            if not coalition >> player & 1:
                weight = factorial(size) * factorial(players - size - 1) / factorial(players)
                found[player] += weight * (values[coalition | 1 << player] - values[coalition])
    return found


def shapley_interactions(values: Array) -> Array:
    """Shapley interaction index of each two of M players (Grabisch and Roubens 1999): values [2^M, ...] -> [M, M, ...].

    How much two players together add beyond what each adds alone, as a mean over coalitions of the others; 0 on the
    diagonal.
    """
    players = _players(values)
    found = np.zeros((players, players, *values.shape[1:]))
    for i, j in combinations(range(players), 2):
        both = 1 << i | 1 << j
        for coalition in range(1 << players):
            if not coalition & both:
                size = coalition.bit_count()
                weight = factorial(size) * factorial(players - size - 2) / factorial(players - 1)
                more = values[coalition | both] - values[coalition | 1 << i]
                found[i, j] += weight * (more - values[coalition | 1 << j] + values[coalition])
        found[j, i] = found[i, j]
    return found


def contributions(values: Array, modalities: Sequence[Modality], present: Sequence[bool]) -> Contributions:
    """What one clip's score is made of.

    Args:
        values: v(S) [2^M, K'] of every subset of the modalities; an absent one changes nothing in them.
        modalities: M, in the order of the bits.
        present: For each modality, whether the clip has it.
    """
    own, of_present = shapley_values(values), [i for i, there in enumerate(present) if there]
    # Models count in float32: no rounding error of theirs is to be taken for a pull or a dependence.
    pull, together = own.mean(axis=-1).round(6), shapley_interactions(values).mean(axis=-1).round(6)
    opposed = [(i, j) for i, j in combinations(of_present, 2) if pull[i] * pull[j] < 0]
    pair = max(opposed, key=lambda two: (abs(together[two]), min(abs(pull[two[0]]), abs(pull[two[1]]))), default=None)
    if pair is not None and pull[pair[0]] < 0:
        pair = pair[::-1]
    by_modality: Mapping[Modality, tuple[float, ...]] = {
        modalities[i]: tuple(float(value) for value in own[i]) for i in of_present
    }
    return Contributions(
        prior=tuple(float(value) for value in values[0]),
        by_modality=by_modality,
        opposed=None if pair is None else (modalities[pair[0]], modalities[pair[1]]),
        interaction=0.0 if pair is None else float(together[pair]),
    )


def log_odds(probabilities: npt.ArrayLike) -> Array:
    """ln(p / (1 - p)), finite also of 0 and 1."""
    chance = np.clip(np.asarray(probabilities, np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.log(chance) - np.log1p(-chance)


def subsets(players: int) -> BoolArray:
    """Who is in each of the 2^M coalitions: [2^M, M], bit by bit."""
    return (np.arange(1 << players)[:, None] >> np.arange(players) & 1).astype(np.bool_)


def _players(values: Array) -> int:
    players = len(values).bit_length() - 1
    if len(values) != 1 << players:
        raise ValueError(f"{len(values)} values are not those of all coalitions of some players")
    return players
