import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from twominds.artifacts import from_json, to_json
from twominds.errors import ConfigError
from twominds.scoring.decision import (
    Abstain,
    Calibrate,
    Clamp,
    Decision,
    Filter,
    Overrule,
    Smooth,
    Threshold,
    overruled,
)
from twominds.scoring.fit_decision import (
    Calibration,
    DecisionFit,
    calibrate,
    choose_abstention,
    choose_threshold,
    fit_decision,
)
from twominds.training.metrics import macro_f1


def test_the_default_is_softmax_at_one_half() -> None:
    decision = Decision()
    p = decision.probabilities([[0.0, math.log(3.0)]])
    np.testing.assert_allclose(p, [[0.25, 0.75]])
    assert [decision.label(x) for x in (0.4999, 0.5, 0.75)] == [0, 1, 1]
    assert decision.labels([0.4999, 0.5, 0.75]).tolist() == [0, 1, 1]
    assert not decision.abstains(0.5)


def test_temperature_and_bias_by_hand() -> None:
    decision = Decision(steps=(Calibrate(temperature=2.0, bias=0.5),))
    z = 3.0 / 2 + 0.5
    np.testing.assert_allclose(decision.probabilities([1.0, 4.0])[1], 1 / (1 + math.exp(-z)))
    logits = np.array([[1.0, 4.0]])
    decision.probabilities(logits)
    assert logits.tolist() == [[1.0, 4.0]]  # the caller's array is not written to


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_allclose(Decision().probabilities([1e4, -1e4]), [1.0, 0.0])


def test_abstention_band() -> None:
    decision = Decision(steps=(Threshold(value=0.6), Abstain(band=0.1)))
    assert [decision.abstains(p) for p in (0.45, 0.51, 0.65, 0.75)] == [False, True, True, False]


def planted(temperature: float, bias: float, clips: int = 5_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits of one model whose true probabilities are sigmoid((l1 - l0) / temperature + bias)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (1, clips, 2))
    chance = 1 / (1 + np.exp(-((logits[0, :, 1] - logits[0, :, 0]) / temperature + bias)))
    return logits, (rng.random(clips) < chance).astype(np.int64)


@pytest.mark.parametrize(
    ("method", "temperature", "bias"), [("temperature", 3.0, 0.0), ("temperature", 0.5, 0.0), ("platt", 2.0, -1.0)]
)
def test_calibration_finds_what_was_planted(method: Calibration, temperature: float, bias: float) -> None:
    logits, labels = planted(temperature, bias)
    found = calibrate(Decision(steps=(Threshold(value=0.4),)), logits, labels, method)
    assert found.step(Calibrate).temperature == pytest.approx(temperature, rel=0.1)
    assert found.step(Calibrate).bias == pytest.approx(bias, abs=0.15)
    assert found.threshold == 0.4


def test_separated_classes_keep_a_finite_temperature() -> None:
    logits = np.array([[[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [-2.0, 2.0]]])
    found = calibrate(Decision(), logits, [0, 0, 1, 1])
    assert 0.3 < found.step(Calibrate).temperature < 20


def test_no_calibration_changes_nothing_and_three_classes_are_refused() -> None:
    assert calibrate(Decision(steps=(Threshold(value=0.3),)), [[[0.0, 1.0]]], [1], "none") == Decision(
        steps=(Threshold(value=0.3),)
    )
    with pytest.raises(ConfigError, match="two classes"):
        calibrate(Decision(), np.zeros((1, 2, 3)), [0, 1])


def test_threshold_by_hand() -> None:
    chance, labels = [0.1, 0.3, 0.35, 0.8], [0, 0, 1, 1]
    found = choose_threshold(Decision(), chance, labels)
    assert found.threshold == pytest.approx(0.325)
    assert choose_threshold(Decision(), [0.2, 0.45, 0.7], [0, 0, 1]).threshold == 0.5  # already the best


def test_all_that_is_asked_for_is_fitted_one_upon_the_other() -> None:
    """The threshold is chosen among calibrated probabilities, and abstention lies around that threshold."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    seen = 2.0 * (labels - 0.5) + rng.normal(0, 1, 4000)  # N(-1, 1) or N(1, 1): the log odds are 2 * seen
    margin = np.tile(4 * seen + 2, (5, 1))  # twice too sure, and too high by 2
    logits = np.stack([np.zeros_like(margin), margin], axis=-1)
    assert fit_decision(DecisionFit(), logits, labels) == Decision()
    found = fit_decision(DecisionFit(calibration="platt", threshold="best", coverage=0.8), logits, labels)
    calibrated = found.probabilities(logits).mean(axis=0)[:, 1]
    assert found.step(Calibrate).temperature == pytest.approx(2, rel=0.1)
    assert found.step(Calibrate).bias == pytest.approx(-1, abs=0.15)
    assert sum(found.abstains(float(p)) for p in calibrated) / 4000 == pytest.approx(0.2, abs=0.005)
    assert macro_f1(labels, found.labels(calibrated), 2) >= macro_f1(labels, (calibrated >= 0.5).astype(int), 2)
    with pytest.raises(ConfigError, match="coverage"):
        DecisionFit(coverage=0)


def test_abstention_keeps_the_coverage() -> None:
    chance = [0.05, 0.45, 0.52, 0.7, 0.95]
    found = choose_abstention(Decision(), chance, coverage=0.6)
    assert [found.abstains(p) for p in chance] == [False, True, True, False, False]
    assert choose_abstention(Decision(), chance, coverage=1.0).abstains(0.52) is False
    with pytest.raises(ConfigError, match="coverage"):
        choose_abstention(Decision(), chance, coverage=0)


@pytest.mark.parametrize(
    ("setting", "step"),
    [
        ("threshold", lambda: Threshold(value=1.0)),
        ("temperature", lambda: Calibrate(temperature=0.0)),
        ("bias", lambda: Calibrate(bias=math.inf)),
        ("abstain band", lambda: Abstain(band=-0.1)),
        ("clamp", lambda: Clamp(low=1.0, high=1.0)),
        ("smooth.radius", lambda: Smooth(radius=-1.0)),
        ("filter.longest_gap_s", lambda: Filter(longest_gap_s=-0.1)),
        ("filter.longest_gap_s", lambda: Filter(shortest_s=-0.1)),
    ],
)
def test_settings_out_of_range_are_named(setting: str, step: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=setting):
        step()


def probabilities_of(*rows: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array(rows)


def test_who_is_confident_overrules_with_all_but_the_classes_that_are_excluded() -> None:
    """HSEmotion's filter: the largest of the classes that faces know must be above the threshold."""
    mean = probabilities_of((0.1, 0.2, 0.7), (0.1, 0.2, 0.7), (0.1, 0.2, 0.7), (0.1, 0.2, 0.7))
    judge = probabilities_of((0.75, 0.15, 0.1), (0.7, 0.2, 0.1), (0.1, 0.1, 0.8), (np.nan, np.nan, np.nan))
    rule = Overrule(member="pretrained", confidence=0.7, never=(2,))
    found = overruled(mean, judge, rule)
    assert found[0] == pytest.approx([0.75 / 0.9, 0.15 / 0.9, 0.0])
    assert np.array_equal(found[1:], mean[1:]), "not above it; the excluded class; silence"


def test_a_video_that_is_denied_has_no_positive_point() -> None:
    mean = probabilities_of((0.2, 0.8), (0.6, 0.4))
    no, yes = probabilities_of((0.6, 0.4), (0.6, 0.4)), probabilities_of((0.4, 0.6), (0.4, 0.6))
    decision = Decision(steps=(Overrule(member="video", when="negative"),))
    points_s = np.array([0.0, 0.1])
    assert decision.over_time(mean, points_s, {"video": no}).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert decision.over_time(mean, points_s, {"video": yes}).tolist() == mean.tolist()
    assert decision.over_time(mean, points_s).tolist() == mean.tolist(), "without that member nobody overrules"


def test_the_judge_is_smoothed_as_the_mean_is() -> None:
    mean = np.tile([0.9, 0.1], (3, 1))
    judge = probabilities_of((0.5, 0.5), (0.1, 0.9), (0.5, 0.5))
    steps = (Smooth(radius=1, unit="points"), Overrule(member="judge", confidence=0.6))
    found = Decision(steps=steps).over_time(mean, np.arange(3.0), {"judge": judge})
    # Its means are 0.7, 0.633 and 0.7: the whole stretch is overruled, not only the point it was sure of.
    assert found[:, 1] == pytest.approx([0.7, 1.9 / 3, 0.7])


def test_an_overruling_step_is_kept_as_json() -> None:
    decision = Decision(steps=(Overrule(member="video", when="negative"),))
    assert from_json(Decision, to_json(decision)) == decision
    with pytest.raises(ConfigError, match="confidence"):
        Overrule(confidence=1.0)
