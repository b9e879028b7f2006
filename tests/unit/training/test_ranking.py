"""Both average precisions, against scikit-learn and a plain loop over thresholds, alone and resampled by people."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as reference

from twominds.training.bootstrap import PeopleBootstrap
from twominds.training.ranking import THRESHOLDS, AveragePrecision, ChallengeAveragePrecision

Array = npt.NDArray[Any]


def drawn(seed: int, points: int = 300) -> tuple[Array, Array, list[str]]:
    """Labels, probabilities with ties among them, and people of uneven numbers of points."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(points) < 0.3).astype(np.int64)
    probabilities = np.clip(np.round(0.3 * labels + 0.6 * rng.random(points), 2), 0, 1)
    return labels, probabilities, [f"p{person}" for person in rng.integers(0, 12, points)]


def by_thresholds(labels: Array, probabilities: Array, weights: Sequence[float] | None = None) -> float:
    """The challenge's curve, point by point."""
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    curve: list[tuple[float, float]] = []
    for threshold in np.linspace(0, 1, THRESHOLDS):
        taken = probabilities >= threshold
        hits, found = float(weight[taken & (labels == 1)].sum()), float(weight[taken].sum())
        curve.append((hits / float(weight[labels == 1].sum()), hits / found if found else 1.0))
    area = 0.0
    for (recall, precision), (lower, next_precision) in pairwise(curve):
        area += (recall - lower) * (precision + next_precision) / 2
    return area


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learns_and_the_challenges(seed: int) -> None:
    labels, probabilities, _ = drawn(seed)
    known = np.random.default_rng(seed + 100).random(len(labels)) < 0.8
    expected = float(cast(Any, reference).average_precision_score(labels[known], probabilities[known]))
    assert AveragePrecision()(labels, probabilities, known) == pytest.approx(expected, abs=1e-12)
    expected = by_thresholds(labels[known], probabilities[known])
    assert ChallengeAveragePrecision()(labels, probabilities, known) == pytest.approx(expected, abs=1e-12)


def test_they_are_not_the_same() -> None:
    """A trapezoid between two thresholds promises what no threshold gives."""
    labels, probabilities, _ = drawn(0)
    both = AveragePrecision()(labels, probabilities), ChallengeAveragePrecision()(labels, probabilities)
    assert abs(both[0] - both[1]) > 1e-3


def test_a_constant_answer_gets_the_share_of_positives() -> None:
    labels = np.array([1, 0, 0, 1, 0])
    assert AveragePrecision()(labels, np.full(5, 0.3)) == pytest.approx(0.4)
    assert AveragePrecision()(np.zeros(5), np.full(5, 0.3)) == 0, "nothing can be found where nothing is"


@pytest.mark.parametrize("metric", [AveragePrecision(), ChallengeAveragePrecision()])
def test_resampled_people_are_a_plain_loop(metric: AveragePrecision | ChallengeAveragePrecision) -> None:
    labels, probabilities, people = drawn(7)
    draws = PeopleBootstrap(labels, people, metric, resamples=40)
    order = list(dict.fromkeys(people))
    owners = np.array([order.index(person) for person in people])
    scores = metric.resampled(labels, probabilities, owners, draws.times.astype(np.float64))
    for score, times in zip(scores, draws.times, strict=True):
        repeated = np.repeat(np.arange(len(labels)), times[owners])
        assert score == pytest.approx(metric(labels[repeated], probabilities[repeated]), abs=1e-9)
    found = draws.estimate(probabilities[None])
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_a_different_number_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="5 labels but 4 probabilities"):
        AveragePrecision()(np.zeros(5), np.zeros(4))
