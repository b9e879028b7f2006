"""Ending candidates that can't win: the test worked by hand, and how often it errs on searches with a planted truth."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from twominds.errors import ConfigError
from twominds.training.stopping import StoppingConfig, below_median, candidate_score, comparable, levels, out_of_reach

INCUMBENT = (0.70, 0.72, 0.71, 0.69, 0.73)
OTHER = (0.68, 0.71, 0.66, 0.68, 0.70)
"""Differences -.02, -.01, -.05, -.01, -.03: variance 2.8e-4 (n - 1 = 4)."""


def bound(known: list[list[float]], done: int) -> float:
    """Of the first of these rows of differences, with done of five seeds: by the definitions, row by row."""
    freedom = sum(len(row) - 1 for row in known)
    squares = sum((d - sum(row) / len(row)) ** 2 for row in known for d in row)
    t = float(stats.t.ppf(1 - levels(5, 0.05)[done - 1], freedom))
    return sum(known[0]) / done + t * math.sqrt(squares / freedom) * math.sqrt(1 / done - 1 / 5)


def test_all_looks_together_end_as_many_that_tie_as_the_risk_says() -> None:
    """Looks j < k at a sum of which the end is known: covariance 1/k - 1/n. Its normal distribution is SciPy's."""
    for seeds, risk in ((5, 0.05), (3, 0.2), (5, 0.01)):
        found, looks = levels(seeds, risk), np.arange(1, seeds)
        assert found == pytest.approx([found[-1] * (seeds - look) for look in looks]), "by what an end saves"
        covariance = np.array([[1 / max(j, k) - 1 / seeds for k in looks] for j in looks])
        thresholds = stats.norm.ppf(1 - np.array(found)) * np.sqrt(np.diag(covariance))
        normal: Any = stats.multivariate_normal
        assert 1 - normal(cov=covariance).cdf(thresholds) == pytest.approx(risk, rel=0.03)
        assert sum(found) > risk, "they may have more than their sum allows"


def test_two_seeds_need_one_look() -> None:
    assert levels(2, 0.05) == pytest.approx((0.05,), rel=0.02)


def test_the_bound_is_where_the_hand_says() -> None:
    """After one seed s is the other candidate's, .01673 with 4 degrees of freedom; s sqrt(1 - 1/5) t below .70."""
    t = float(stats.t.ppf(1 - levels(5, 0.05)[0], 4))
    first = 0.70 - t * math.sqrt(2.8e-4) * math.sqrt(1 - 1 / 5)
    assert not out_of_reach([first + 1e-6], [INCUMBENT, OTHER], risk=0.05)
    assert out_of_reach([first - 1e-6], [INCUMBENT, OTHER], risk=0.05)
    others = [other - best for other, best in zip(OTHER, INCUMBENT, strict=True)]
    for lower, ends in ((0.015, False), (0.02, True)):
        differences = [-lower, -lower - 0.01, -lower + 0.01]
        assert (bound([differences, others], 3) < 0) is ends
        scores = [best + difference for best, difference in zip(INCUMBENT, differences, strict=False)]
        assert out_of_reach(scores, [INCUMBENT, OTHER], risk=0.05) is ends


def test_a_candidate_that_varies_more_than_the_other_is_given_that() -> None:
    """Differences -.10 and -.10 end it, -.20 and 0 do not: they say that the next may be anything."""
    assert out_of_reach([INCUMBENT[0] - 0.10, INCUMBENT[1] - 0.10], [INCUMBENT, OTHER], risk=0.05)
    assert not out_of_reach([INCUMBENT[0] - 0.20, INCUMBENT[1]], [INCUMBENT, OTHER], risk=0.05)


def test_it_is_compared_on_the_same_seeds() -> None:
    """Its mean .70 is above the best's .60 over all seeds, but on these two seeds the best had .90."""
    best, other = (0.90, 0.90, 0.40, 0.40, 0.40), (0.89, 0.90, 0.39, 0.40, 0.39)
    assert out_of_reach([0.70, 0.70], [best, other], risk=0.05)
    assert not out_of_reach([0.89, 0.90], [best, other], risk=0.05)


def test_nothing_is_ended_while_nothing_is_known() -> None:
    assert not out_of_reach([0.1], [], risk=0.05)
    assert not out_of_reach([0.1], [INCUMBENT], risk=0.05), "of one candidate no spread of differences is known"
    assert not out_of_reach([], [INCUMBENT, OTHER], risk=0.05)
    assert not out_of_reach([0.1] * 5, [INCUMBENT, OTHER], risk=0.05), "after the last seed it is finished"
    assert not out_of_reach([0.1], [INCUMBENT, OTHER], risk=0.0)


def test_a_steadier_candidate_may_win_with_a_lower_mean() -> None:
    """Penalty 1: the best one's score is its mean .70 less its deviation .2; a steady .55 would beat it."""
    best, other = (0.9, 0.5, 0.9, 0.5, 0.7), (0.89, 0.49, 0.89, 0.49, 0.69)
    assert out_of_reach([0.80, 0.40, 0.80], [best, other], risk=0.05, std_penalty=0.0)
    assert not out_of_reach([0.80, 0.40, 0.80], [best, other], risk=0.05, std_penalty=1.0)


@pytest.mark.parametrize("unequal", [False, True])
def test_it_seldom_ends_a_winner_and_saves_most_trainings(unequal: bool) -> None:
    """Searches of 40 candidates whose scores are a quality, an effect of the seed and noise; the truth is all seeds.

    Noise that is four times as large in some candidates as in others is what the test does not allow for.
    """
    rng = np.random.default_rng(5)
    lost, trained, searches = 0, 0, 100
    for _ in range(searches):
        quality, of_seed = rng.normal(0.68, 0.03, 40), rng.normal(0, 0.02, 5)
        noise = rng.uniform(0.006, 0.024, (40, 1)) if unequal else 0.012
        scores = quality[:, None] + of_seed + noise * rng.standard_normal((40, 5))
        finished: list[tuple[float, ...]] = []
        for candidate in scores.tolist():
            done = 0
            while done < 5 and not out_of_reach(candidate[:done], finished, risk=0.05):
                done += 1
            trained += done
            if done == 5:
                finished.append(tuple(candidate))
        lost += scores.mean(axis=1).max() > max(np.mean(candidate) for candidate in finished) + 1e-12
    assert lost / searches <= 0.05
    assert trained / (searches * 40 * 5) < 0.6


def test_what_a_sampler_hears_is_shifted_by_what_seeds_add() -> None:
    """The first two seeds are easy: finished candidates lose .05 and .03 from their first two to all five."""
    finished = [(0.8, 0.8, 0.7, 0.7, 0.75), (0.7, 0.7, 0.65, 0.65, 0.65)]
    assert comparable([0.6, 0.7], finished, 0.0) == pytest.approx(0.65 - (0.05 + 0.03) / 2)
    assert comparable(finished[0], finished, 0.0) == pytest.approx(0.75)
    assert comparable([0.6], [], 0.0) == 0.6
    assert candidate_score([0.6, 0.8], 0.5) == pytest.approx(0.7 - 0.05)


def test_below_the_median_of_the_others_at_the_same_epoch() -> None:
    others = [(0.5, 0.60), (0.5, 0.62, 0.70), (0.5, 0.55, 0.66), (0.5, 0.50, 0.71), (0.5, 0.61, 0.64)]
    # At epoch 2: .60 .62 .55 .50 .61, median .60. At epoch 3 the first stands with its .60: median .66.
    assert not below_median((0.4, 0.60), others, after=2)
    assert below_median((0.4, 0.59), others, after=2)
    assert below_median((0.4, 0.62, 0.65), others, after=2)
    assert not below_median((0.4, 0.62, 0.66), others, after=2)
    assert not below_median((0.1,), others, after=2), "too early"
    assert not below_median((0.1, 0.1), others[:4], after=2), "too few to know"
    assert not below_median((0.1, 0.1), others, after=0), "off"


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="risk"):
        StoppingConfig(risk=0.7)
    with pytest.raises(ConfigError, match="median_after"):
        StoppingConfig(median_after=-1)
