"""Bootstrap intervals against resampling one clip after the other, and against truths that are known beforehand."""

import time

import numpy as np
import pytest

from twominds.training.bootstrap import PeopleBootstrap
from twominds.training.metrics import IntArray, macro_f1, metric_of_classes, metric_of_intensities

MF1_OF_2, MF1_OF_3 = metric_of_classes("macro_f1", 2), metric_of_classes("macro_f1", 3)
LABELS = [0, 1, 1, 0, 2, 1, 0, 2]
PEOPLE = ["a", "a", "b", "clip 3", "b", "c", "clip 6", "c"]
PREDICTIONS = np.array([[0, 1, 0, 0, 2, 2, 1, 2], [0, 0, 1, 1, 2, 1, 0, 0]])


def brute_force(bootstrap: PeopleBootstrap, predictions: IntArray) -> list[float]:
    """Every resample written out as a list of clips."""
    clips_of = [[0, 1], [2, 4], [3], [5, 7], [6]]  # a, b, the first of nobody, c, the second of nobody
    scores: list[float] = []
    for times in bootstrap.times.tolist():
        assert sum(times) == 5
        clips = [clip for person, often in enumerate(times) for _ in range(often) for clip in clips_of[person]]
        labels = [LABELS[clip] for clip in clips]
        scores.append(float(np.mean([macro_f1(labels, [int(row[clip]) for clip in clips], 3) for row in predictions])))
    return scores


def test_interval_equals_resampling_one_clip_after_the_other() -> None:
    bootstrap = PeopleBootstrap(LABELS, PEOPLE, MF1_OF_3, resamples=200, seed=1)
    estimate = bootstrap.estimate(PREDICTIONS)
    assert bootstrap.people == 5
    assert estimate.value == pytest.approx(np.mean([macro_f1(LABELS, row, 3) for row in PREDICTIONS]))
    expected = np.percentile(brute_force(bootstrap, PREDICTIONS), [2.5, 97.5])
    assert estimate.interval == pytest.approx(tuple(expected), abs=1e-12)


def test_difference_is_taken_on_the_same_resamples() -> None:
    bootstrap = PeopleBootstrap(LABELS, PEOPLE, MF1_OF_3, resamples=200, seed=1)
    one, other = PREDICTIONS[:1], PREDICTIONS
    difference = bootstrap.difference(one, other)
    expected = np.array(brute_force(bootstrap, one)) - np.array(brute_force(bootstrap, other))
    assert difference.interval == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])), abs=1e-12)
    below, above = int(np.sum(expected <= 1e-12)), int(np.sum(expected >= -1e-12))
    assert difference.p_value == pytest.approx(min(1.0, 2 * (1 + min(below, above)) / 201))
    back = bootstrap.difference(other, one)
    assert back.value == pytest.approx(-difference.value)
    assert back.p_value == difference.p_value


def test_equal_rows_do_not_differ_at_all() -> None:
    bootstrap = PeopleBootstrap(LABELS, PEOPLE, MF1_OF_3)
    difference = bootstrap.difference(PREDICTIONS, PREDICTIONS.copy())
    assert (difference.value, difference.interval, difference.p_value) == (0.0, (0.0, 0.0), 1.0)
    thrice = bootstrap.difference(PREDICTIONS[:1], PREDICTIONS[[0, 0, 0]])
    assert (thrice.interval, thrice.p_value) == ((0.0, 0.0), 1.0)


def test_a_row_that_is_always_right_beats_one_that_is_always_wrong() -> None:
    labels = np.tile([0, 1], 40)
    bootstrap = PeopleBootstrap(labels, [f"p{i // 4}" for i in range(80)], MF1_OF_2, resamples=999)
    difference = bootstrap.difference(labels[None], 1 - labels[None])
    assert (difference.value, difference.interval) == (1.0, (1.0, 1.0))
    assert difference.p_value == pytest.approx(2 / 1000)


def test_a_person_counts_as_one_however_many_clips() -> None:
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, 2, 60), rng.integers(0, 2, (2, 60))
    people = [f"p{i // 3}" for i in range(60)]
    once = PeopleBootstrap(labels, people, MF1_OF_2).estimate(predictions)
    twice = PeopleBootstrap(np.tile(labels, 2), people * 2, MF1_OF_2).estimate(np.tile(predictions, 2))
    assert twice.interval == once.interval
    # Were the copies people of their own, the interval would be narrower by about the square root of 2.
    others = [*people, *(f"{person}-copy" for person in people)]
    apart = PeopleBootstrap(np.tile(labels, 2), others, MF1_OF_2).estimate(np.tile(predictions, 2))
    assert apart.interval is not None
    assert once.interval is not None
    assert np.diff(apart.interval)[0] == pytest.approx(np.diff(once.interval)[0] / np.sqrt(2), rel=0.15)


def test_intervals_cover_the_truth_where_intervals_over_clips_do_not() -> None:
    """40 people, each 3 times right or 3 times wrong; 3 of 4 are right and labels are even, so macro F1 is 0.75."""
    rng = np.random.default_rng(4)
    people = [f"p{i // 3}" for i in range(120)]
    covered = {"people": 0, "clips": 0}
    for seed in range(150):
        labels = rng.integers(0, 2, 120)
        predictions = np.where(np.repeat(rng.random(40) < 0.75, 3), labels, 1 - labels)[None]
        for unit, names in (("people", people), ("clips", [str(i) for i in range(120)])):
            estimate = PeopleBootstrap(labels, names, MF1_OF_2, resamples=300, seed=seed).estimate(predictions)
            assert estimate.interval is not None
            covered[unit] += estimate.interval[0] <= 0.75 <= estimate.interval[1]
    assert 0.88 <= covered["people"] / 150 <= 0.99
    assert covered["clips"] / 150 <= 0.82


def test_p_values_of_equally_good_rows_are_spread_evenly() -> None:
    rng = np.random.default_rng(5)
    people = [f"p{i // 2}" for i in range(200)]
    small = 0
    for seed in range(100):
        labels = rng.integers(0, 2, 200)
        one, other = (np.where(rng.random(200) < 0.7, labels, 1 - labels)[None] for _ in range(2))
        p_value = PeopleBootstrap(labels, people, MF1_OF_2, resamples=300, seed=seed).difference(one, other).p_value
        assert p_value is not None
        small += p_value < 0.2
    assert 10 <= small <= 32  # 20 expected, standard deviation 4


def test_one_person_has_no_interval() -> None:
    bootstrap = PeopleBootstrap([0, 1], ["a", "a"], MF1_OF_2)
    estimate = bootstrap.estimate(np.array([[0, 1]]))
    assert (estimate.value, estimate.interval) == (1.0, None)
    difference = bootstrap.difference(np.array([[0, 1]]), np.array([[1, 1]]))
    assert (difference.interval, difference.p_value) == (None, None)


def test_same_seed_same_interval() -> None:
    intervals = [
        PeopleBootstrap(LABELS, PEOPLE, MF1_OF_3, seed=seed).estimate(PREDICTIONS[:1]).interval for seed in (7, 7, 8)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


def test_eight_rows_of_five_models_take_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(6)
    labels, predictions = rng.integers(0, 2, 525), rng.integers(0, 2, (8, 5, 525))
    start = time.process_time()
    bootstrap = PeopleBootstrap(labels, [f"p{i // 7}" for i in range(525)], MF1_OF_2)
    for row in predictions:
        bootstrap.estimate(row)
    assert time.process_time() - start < 2  # 0.06 s; the rest is for a busy machine


def test_intensities_are_resampled_by_person_as_a_plain_loop_does() -> None:
    rng = np.random.default_rng(5)
    truths, answers = rng.random((2, 40, 3))
    people = [f"p{i // 5}" for i in range(40)]
    metric = metric_of_intensities("pearson", 3)
    bootstrap = PeopleBootstrap(truths, people, metric, resamples=100)
    loop: list[float] = []
    for times in bootstrap.times.tolist():
        points = [
            i for person, often in enumerate(times) for _ in range(often) for i in range(5 * person, 5 * person + 5)
        ]
        loop.append(float(np.mean([np.corrcoef(truths[points, k], answers[points, k])[0, 1] for k in range(3)])))
    estimate = bootstrap.estimate(answers[None])
    assert estimate.value == pytest.approx(np.mean([np.corrcoef(truths[:, k], answers[:, k])[0, 1] for k in range(3)]))
    assert estimate.interval == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])), abs=1e-9)
