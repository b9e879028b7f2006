"""Shapley values against the permutation formula and by hand; absent and ignored modalities; who opposes whom."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from twominds.records import Modality
from twominds.scoring.contributions import (
    contributions,
    log_odds,
    shapley_interactions,
    shapley_values,
    subsets,
)

Array = npt.NDArray[np.float64]
SCENE, FACE, AUDIO, TEXT = Modality


def by_permutations(values: Array) -> Array:
    """The mean over all orders in which players may come of what each adds when it comes."""
    players = len(values).bit_length() - 1
    found = np.zeros((players, *values.shape[1:]))
    orders = list(permutations(range(players)))
    for order in orders:
        there = 0
        for player in order:
            found[player] += values[there | 1 << player] - values[there]
            there |= 1 << player
    return found / len(orders)


@pytest.mark.parametrize("players", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_permutation_formula_and_the_sum(players: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((1 << players, 2))
    found = shapley_values(values)
    np.testing.assert_allclose(found, by_permutations(values), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), values[-1] - values[0], atol=1e-12)


def test_three_players_by_hand() -> None:
    """The glove game: 0 has a left glove, 1 and 2 right ones; a pair is worth 1."""
    values = np.array([0, 0, 0, 1, 0, 1, 0, 1], np.float64)
    np.testing.assert_allclose(shapley_values(values), [2 / 3, 1 / 6, 1 / 6])


def test_a_modality_that_the_model_ignores_has_zero() -> None:
    seen = np.random.default_rng(0).standard_normal(4)
    values = np.array([seen[c & 0b011] for c in range(8)])
    assert shapley_values(values)[2] == pytest.approx(0)
    assert shapley_interactions(values)[2] == pytest.approx(np.zeros(3))


def test_interactions() -> None:
    """Of a sum there are none; of a product of two it is the product."""
    who = subsets(3).astype(np.float64)
    np.testing.assert_allclose(shapley_interactions(who @ [1.0, -2.0, 3.0]), np.zeros((3, 3)), atol=1e-12)
    found = shapley_interactions(5 * who[:, 0] * who[:, 2])
    np.testing.assert_allclose(found, [[0, 0, 5], [0, 0, 0], [5, 0, 0]], atol=1e-12)


def test_who_is_in_a_coalition() -> None:
    assert subsets(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]


def test_an_absent_modality_has_no_contribution() -> None:
    """And the others have what they have in the game among themselves."""
    seen = np.random.default_rng(1).standard_normal(8)
    # Bits 0, 1 and 3 are there, bit 2 is not: the model says the same with and without it.
    values = np.array([seen[(c & 0b011) | (c >> 1 & 0b100)] for c in range(16)])[:, None]
    found = contributions(values, tuple(Modality), [True, True, False, True])
    assert AUDIO not in found.by_modality
    expected = by_permutations(seen)
    assert [found.by_modality[m][0] for m in (SCENE, FACE, TEXT)] == pytest.approx(expected.tolist())
    assert found.prior[0] + sum(value[0] for value in found.by_modality.values()) == pytest.approx(seen[-1])


def test_who_opposes_whom() -> None:
    """Of those that pull in opposite directions the two that depend on each other most; the one that pulls up first."""
    who = subsets(4).astype(np.float64)
    sums = who @ [2.0, -1.0, -1.75, 0.5]
    values = (sums - 1.0 * who[:, 1] * who[:, 3])[:, None]  # face and text together say less than each alone
    found = contributions(values, tuple(Modality), [True] * 4)
    assert found.by_modality[FACE][0] == pytest.approx(-1.5)
    assert found.by_modality[TEXT][0] == pytest.approx(0.0)
    assert found.opposed == (SCENE, AUDIO), "without interactions it is those that pull hardest"
    values = (sums - 0.4 * who[:, 1] * who[:, 3])[:, None]
    found = contributions(values, tuple(Modality), [True] * 4)
    assert (found.opposed, found.interaction) == ((TEXT, FACE), pytest.approx(-0.4))
    agreed = contributions((who @ [1.0, 2.0, 0.5, 0.1])[:, None], tuple(Modality), [True] * 4)
    assert (agreed.opposed, agreed.interaction) == (None, 0.0)


def test_log_odds() -> None:
    assert log_odds([0.5, 0.8]).tolist() == pytest.approx([0, np.log(4)])
    assert np.isfinite(log_odds([0.0, 1.0])).all()


def test_half_a_table_of_coalitions_is_refused() -> None:
    with pytest.raises(ValueError, match="6 values are not those of all coalitions"):
        shapley_values(np.zeros(6))
