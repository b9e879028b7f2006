"""Weights against brute force, on members that are worth different amounts."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twominds.errors import ConfigError
from twominds.scoring.decision import Decision, Threshold
from twominds.scoring.weights import fit_weights
from twominds.training.metrics import metric_of_classes, metric_of_intensities

MACRO = metric_of_classes("macro_f1", 2)
PEARSON = metric_of_intensities("pearson", 3)

Outputs = npt.NDArray[np.float64]


def classes(noise: tuple[float, ...], points: int = 60) -> tuple[Outputs, npt.NDArray[np.int64]]:
    """Probabilities of members, each as good as its noise is small."""
    rng = np.random.default_rng(0)
    truth = np.arange(points) % 2
    positive = np.stack([1 / (1 + np.exp(-(2.0 * truth - 1 + s * rng.standard_normal(points)))) for s in noise])
    return np.stack([1 - positive, positive], axis=-1), truth


def intensities(points: int = 40) -> tuple[Outputs, Outputs]:
    """Three members, each of which knows one of three outputs best."""
    rng = np.random.default_rng(1)
    truth = rng.random((points, 3))
    noise = 0.2 + 0.8 * (1 - np.eye(3))
    return np.stack([truth + noise[s] * rng.standard_normal(truth.shape) for s in range(3)]), truth


def brute_force(outputs: Outputs, truth: npt.NDArray[Any], members: int, parts: int) -> float:
    best = -1.0
    for whole in product(range(parts + 1), repeat=members):
        if sum(whole) == parts:
            blend = sum(w / parts * of_member for w, of_member in zip(whole, outputs, strict=True))
            assert isinstance(blend, np.ndarray)
            best = max(best, MACRO(truth, (blend[:, 1] >= 0.5).astype(int)))
    return best


@pytest.mark.parametrize("noise", [(1.0, 2.0), (1.5, 1.6, 3.0), (2.0, 2.0, 2.0, 5.0)])
def test_no_blend_on_the_grid_is_better(noise: tuple[float, ...]) -> None:
    outputs, truth = classes(noise)
    weights = np.array(fit_weights(outputs, truth, MACRO, step=0.1))
    assert weights.sum() == pytest.approx(1)
    found = MACRO(truth, np.tensordot(weights, outputs, 1).argmax(axis=1))
    equal = MACRO(truth, outputs.mean(axis=0).argmax(axis=1))
    assert found == pytest.approx(max(equal, brute_force(outputs, truth, len(noise), 10)))


@pytest.mark.parametrize("members", [1, 2, 3, 4, 6])
def test_equal_members_get_equal_weights(members: int) -> None:
    outputs, truth = classes((2.0,))
    alike = np.repeat(outputs, members, axis=0)
    assert fit_weights(alike, truth, MACRO) == pytest.approx([1 / members] * members)
    per_output = np.array(fit_weights(alike, truth, MACRO, per_output=True, step=0.25))
    np.testing.assert_allclose(per_output, np.full((members, 2), 1 / members))


def test_of_many_members_the_one_that_knows_outweighs_the_others() -> None:
    outputs, truth = classes((0.3, *[40.0] * 5))
    weights = np.array(fit_weights(outputs, truth, MACRO))
    assert weights.argmax() == 0
    assert weights.sum() == pytest.approx(1)
    found = MACRO(truth, np.tensordot(weights, outputs, 1).argmax(axis=1))
    assert found > MACRO(truth, outputs.mean(axis=0).argmax(axis=1))


def test_each_output_has_the_weights_that_are_best_for_it_alone() -> None:
    outputs, truth = intensities()
    weights = np.array(fit_weights(outputs, truth, PEARSON, step=0.1, per_output=True))
    assert weights.argmax(axis=0).tolist() == [0, 1, 2]
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    one = metric_of_intensities("pearson", 1)
    for k in range(3):
        alone = np.array(fit_weights(outputs[..., [k]], truth[:, [k]], one, step=0.1))
        np.testing.assert_allclose(weights[:, k], alone)
    common = np.array(fit_weights(outputs, truth, PEARSON, step=0.1))
    blends = [(w.reshape(3, 1, -1) * outputs).sum(axis=0) for w in (weights, common)]
    assert PEARSON(truth, blends[0]) > PEARSON(truth, blends[1])


def test_a_member_that_says_nothing_of_some_points_is_weighed_by_the_others() -> None:
    outputs, truth = classes((0.5, 30.0, 30.0))
    outputs[0, :20] = np.nan
    outputs[:, 20] = np.nan  # of this nobody says anything
    weights = np.array(fit_weights(outputs, truth, MACRO, step=0.25))
    assert weights[0] > 0.25
    assert weights[1:].sum() > 0, "without the others a third of the points has no answer"


def test_classes_are_those_of_the_decision() -> None:
    truth = np.array([0, 1] * 10)
    positive = np.stack([np.where(truth == 1, 0.35, 0.25), np.tile([0.4, 0.4, 0.1, 0.1], 5)])
    outputs = np.stack([1 - positive, positive], axis=-1)
    assert fit_weights(outputs, truth, MACRO) == (0.5, 0.5), "by the most probable class all blends are the same"
    weights = np.array(fit_weights(outputs, truth, MACRO, decisions=[Decision(steps=(Threshold(value=0.3),))]))
    assert weights[0] > weights[1]


def test_a_step_that_is_no_part_of_one_is_refused() -> None:
    outputs, truth = classes((1.0, 2.0))
    with pytest.raises(ConfigError, match=r"step.*0\.3"):
        fit_weights(outputs, truth, MACRO, step=0.3)
