"""The steps of a decision by hand: smoothing, filters, bounds, and their JSON of today and of before."""

import json
import math
from typing import Any, cast

import numpy as np
import pytest

from twominds.artifacts import from_json, to_json
from twominds.errors import ArtifactError, ConfigError
from twominds.scoring.decision import (
    Abstain,
    Array,
    Calibrate,
    Clamp,
    Decision,
    Filter,
    Smooth,
    Step,
    Threshold,
    borders_of,
    filtered,
    runs_of,
    smoothed,
)

TIMES = np.array([0.0, 0.5, 1.0, 2.0, 2.5])
ONE = np.array([[1.0], [2.0], [6.0], [0.0], [3.0]])


def column(*values: float) -> Array:
    return np.array(values, np.float64)[:, None]


def test_a_moving_average_in_seconds_by_hand() -> None:
    """Between 1 and 2 s nobody looks across; at the ends there are fewer neighbours."""
    found = smoothed(ONE, TIMES, Smooth(radius=0.5))
    np.testing.assert_allclose(found, column(3 / 2, 9 / 3, 8 / 2, 3 / 2, 3 / 2))


def test_a_moving_average_in_points_by_hand() -> None:
    found = smoothed(ONE, TIMES, Smooth(radius=1, unit="points"))
    np.testing.assert_allclose(found, column(3 / 2, 9 / 3, 8 / 3, 9 / 3, 3 / 2))


def test_a_moving_median_by_hand() -> None:
    found = smoothed(ONE, TIMES, Smooth(kernel="median", radius=1, unit="points"))
    np.testing.assert_allclose(found, column(1.5, 2, 2, 3, 1.5))
    found = smoothed(ONE, TIMES, Smooth(kernel="median", radius=1.0))
    np.testing.assert_allclose(found, column(2, 2, (1 + 0) / 2 + 1, 3, 1.5))


@pytest.mark.parametrize("unit", ["s", "points"])
def test_a_gaussian_by_hand(unit: str) -> None:
    """Its standard deviation is half the radius, and it is cut off at the radius."""
    places = TIMES if unit == "s" else np.arange(5.0)
    found = smoothed(ONE, TIMES, Smooth(kernel="gaussian", radius=1.0, unit=unit))  # type: ignore[arg-type]
    for i, place in enumerate(places):
        weights = [math.exp(-0.5 * ((p - place) / 0.5) ** 2) if abs(p - place) <= 1 else 0.0 for p in places]
        expected = sum(w * v for w, v in zip(weights, ONE[:, 0], strict=True)) / sum(weights)
        assert found[i, 0] == pytest.approx(expected)


@pytest.mark.parametrize("kernel", ["mean", "gaussian", "median"])
@pytest.mark.parametrize("unit", ["s", "points"])
def test_smoothing_keeps_what_is_constant_and_each_output_by_itself(kernel: str, unit: str) -> None:
    smooth = Smooth(kernel=kernel, radius=2, unit=unit)  # type: ignore[arg-type]
    two = np.hstack([ONE, np.full((5, 1), 0.25)])
    found = smoothed(two, TIMES, smooth)
    np.testing.assert_allclose(found[:, 1], 0.25)
    np.testing.assert_allclose(found[:, :1], smoothed(ONE, TIMES, smooth))
    assert smoothed(ONE[:1], TIMES[:1], smooth).tolist() == [[1.0]]
    np.testing.assert_array_equal(smoothed(ONE, TIMES, Smooth(kernel=kernel, radius=0)), ONE)  # type: ignore[arg-type]


SECONDS = np.linspace(0.5, 9.5, 10)  # each point stands for a second, the first for 0 to 1 s


def keep(pattern: str, *, longest_gap_s: float = 0.0, shortest_s: float = 0.0) -> str:
    limits = Filter(longest_gap_s=longest_gap_s, shortest_s=shortest_s)
    found = filtered(np.array([c == "1" for c in pattern]), SECONDS[: len(pattern)], limits)
    return "".join("1" if c else "0" for c in found)


def test_filters_by_hand() -> None:
    assert keep("1101100011", longest_gap_s=1) == "1111100011"
    assert keep("1101100011", longest_gap_s=2.9) == "1111100011"
    assert keep("1101100011", longest_gap_s=3) == "1111111111"
    assert keep("0010011100", longest_gap_s=9) == "0011111100", "what is before the first and after the last is no gap"
    assert keep("1001101110", shortest_s=2) == "0001101110", "as short as the limit is no shorter"
    assert keep("1001101110", shortest_s=2.1) == "0000001110"
    assert keep("1100000001", shortest_s=1.5) == "1100000000", "at the ends, too"
    assert keep("1010100000", longest_gap_s=1, shortest_s=3) == "1111100000", "gaps are filled first"
    assert keep("0000000000", longest_gap_s=5, shortest_s=1) == "0000000000"
    assert keep("1111111111", longest_gap_s=5, shortest_s=1) == "1111111111"
    assert keep("0110", longest_gap_s=0, shortest_s=0) == "0110"


def test_stretches_and_borders_by_hand() -> None:
    assert runs_of(np.array([1, 1, 0, 2, 2, 2])) == [(0, 2), (2, 3), (3, 6)]
    assert runs_of(np.array([], np.int64)) == []
    np.testing.assert_allclose(borders_of(np.array([0.1, 0.3, 0.9])), [0, 0.2, 0.6, 1.2])
    np.testing.assert_allclose(borders_of(np.array([1.0, 2.0])), [0.5, 1.5, 2.5])


def test_over_time_smooths_and_then_clamps() -> None:
    decision = Decision(steps=(Clamp(low=0.5, high=2.5), Smooth(radius=0.5)))
    np.testing.assert_allclose(decision.over_time(ONE, TIMES), column(1.5, 2.5, 2.5, 1.5, 1.5))
    np.testing.assert_allclose(decision.over_time(ONE, None), column(1, 2, 2.5, 0.5, 2.5))
    np.testing.assert_array_equal(Decision().over_time(ONE, TIMES), ONE)


def test_classes_by_threshold_filter_and_the_most_probable() -> None:
    chance = np.array([0.9, 0.2, 0.9, 0.1, 0.1])
    two = np.stack([1 - chance, chance], axis=1)
    decision = Decision(steps=(Threshold(value=0.15), Filter(shortest_s=0.1)))
    assert decision.classes(two).tolist() == [1, 1, 1, 0, 0]
    gap = Decision(steps=(Filter(longest_gap_s=1.0),))
    assert gap.classes(two, TIMES).tolist() == [1, 1, 1, 0, 0]
    assert gap.classes(two).tolist() == [1, 0, 1, 0, 0]
    three = np.array([[0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    assert gap.classes(three, TIMES[:2]).tolist() == [1, 0]


STEPS: tuple[Step, ...] = (
    Calibrate(temperature=2.0, bias=-0.5),
    Clamp(low=0.25, high=0.75),
    Smooth(kernel="gaussian", radius=3.0, unit="points"),
    Threshold(value=0.4),
    Filter(longest_gap_s=0.5, shortest_s=1.5),
    Abstain(band=0.1),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_every_step_survives_json_and_is_found_by_its_kind(step: Step) -> None:
    decision = from_json(Decision, json.loads(json.dumps(to_json(Decision(steps=(step,))))))
    assert decision == Decision(steps=(step,))
    assert decision.step(cast(Any, type(step))) == step
    assert decision.has(type(step))
    assert not Decision().has(type(step))
    assert Decision().step(cast(Any, type(step))) == type(step)()
    with pytest.raises(ConfigError, match=f"takes each step once, got {step.kind}, {step.kind}"):
        Decision(steps=(step, type(step)()))


def test_all_steps_survive_json_in_their_order() -> None:
    decision = Decision(steps=STEPS)
    assert from_json(Decision, json.loads(json.dumps(to_json(decision)))) == decision
    changed = decision.with_step(Threshold(value=0.6))
    assert (changed.threshold, len(changed.steps)) == (0.6, len(STEPS))


def test_a_step_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArtifactError, match="Not a Decision"):
        from_json(Decision, {"steps": [{"kind": "sharpen"}]})
    with pytest.raises(ArtifactError, match=r"it has no steps\.radios|it has no"):
        from_json(Decision, {"steps": [{"kind": "smooth", "radios": 3}]})


def test_a_decision_of_before_there_were_steps() -> None:
    old = {"threshold": 0.4, "temperature": 2.0, "bias": -0.5, "abstain_band": 0.1}
    decision = from_json(Decision, json.loads(json.dumps(old)))
    assert (decision.threshold, decision.abstain_band) == (0.4, 0.1)
    chance = decision.probabilities([[1.0, 4.0]])[0, 1]
    assert chance == pytest.approx(1 / (1 + math.exp(-(3.0 / 2 - 0.5))))
    plain = from_json(Decision, {"threshold": 0.5, "temperature": 1.0, "bias": 0.0, "abstain_band": 0.0})
    logits = np.random.default_rng(0).standard_normal((20, 2))
    np.testing.assert_array_equal(plain.probabilities(logits), Decision().probabilities(logits))
    assert not plain.abstains(0.5)
