from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import sklearn.metrics

from twominds.training.metrics import (
    CLASS_METRICS,
    INTENSITY_METRICS,
    confusion,
    macro_f1,
    metric_of_classes,
    metric_of_intensities,
    per_output,
    question_baseline,
)


@pytest.mark.parametrize("num_classes", [2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_and_confusion_equal_scikit_learn(num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, num_classes, (2, 30))
    reference = cast(Any, sklearn.metrics)
    expected = reference.f1_score(labels, predictions, average="macro", labels=range(num_classes), zero_division=0)
    assert macro_f1(labels, predictions, num_classes) == pytest.approx(expected, abs=1e-12)
    table = reference.confusion_matrix(labels, predictions, labels=range(num_classes))
    assert confusion(labels, predictions, num_classes).tolist() == table.tolist()


def test_macro_f1_by_hand() -> None:
    # Class 0: TP 1, FP 1, FN 1 -> 1/2; class 1: TP 2, FP 1, FN 1 -> 2/3.
    assert macro_f1([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], 2) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert macro_f1([1, 1], [1, 1], 2) == 0.5  # class 0 is nowhere: it counts as 0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 labels but 1"):
        macro_f1([0, 1], [0], 2)


def test_question_baseline_by_hand() -> None:
    train_labels, train_questions = [1, 1, 0, 0, 0, 1], [4, 4, 4, 1, 1, None]
    answer = question_baseline(train_labels, train_questions, [1, 4, 7, None], 2)
    assert answer.tolist() == [0, 1, 0, 1]  # question 7 is new: the overall majority (of equals the first)


@pytest.mark.parametrize("num_classes", [2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes_equal_scikit_learn_on_what_is_known(num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, num_classes, (2, 40))
    known = rng.random(40) < 0.7
    reference, truth, answer = cast(Any, sklearn.metrics), labels[known], predictions[known]
    of_f1: dict[str, Any] = {"labels": range(num_classes), "zero_division": 0}
    expected = {
        "macro_f1": reference.f1_score(truth, answer, average="macro", **of_f1),
        "weighted_f1": reference.f1_score(truth, answer, average="weighted", **of_f1),
        "positive_f1": reference.f1_score(truth, answer, average=None, **of_f1)[-1],
        "accuracy": reference.accuracy_score(truth, answer),
    }
    assert set(expected) == set(CLASS_METRICS)
    unknown = np.where(known, labels, -1)
    for name, score in expected.items():
        assert metric_of_classes(name, num_classes)(unknown, predictions, known) == pytest.approx(score, abs=1e-12)


def concordance(truth: npt.NDArray[np.float64], answer: npt.NDArray[np.float64]) -> float:
    """Lin's coefficient as it is written down."""
    covariance = float(cast(Any, np).cov(truth, answer, bias=True)[0, 1])
    return float(2 * covariance / (truth.var() + answer.var() + (truth.mean() - answer.mean()) ** 2))


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_intensities_equal_scipy_on_what_is_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = rng.random((50, 6))
    answers = np.clip(truths + rng.normal(0, 0.3, (50, 6)), 0, 1)
    known = rng.random(50) < 0.7
    truth, answer = truths[known], answers[known]
    truths[~known] = np.nan
    pearson = [cast(Any, scipy.stats).pearsonr(truth[:, k], answer[:, k]).statistic for k in range(6)]
    expected = {"pearson": pearson, "ccc": [concordance(truth[:, k], answer[:, k]) for k in range(6)]}
    assert set(expected) == set(INTENSITY_METRICS)
    for name, scores in expected.items():
        metric = metric_of_intensities(name, 6)
        assert per_output(name, metric.sums(truths, answers, known)) == pytest.approx(scores, abs=1e-9)
        assert metric(truths, answers, known) == pytest.approx(np.mean(scores), abs=1e-9)


def test_a_constant_answer_correlates_with_nothing() -> None:
    """The training mean, say: its variance is rounding alone, and so is its covariance."""
    truths = np.random.default_rng(0).random((1000, 2))
    for name in INTENSITY_METRICS:
        assert metric_of_intensities(name, 2)(truths, np.full_like(truths, 0.1)) == 0.0
        assert metric_of_intensities(name, 2)(truths, truths) == pytest.approx(1.0)
        assert metric_of_intensities(name, 2)(truths[:0], truths[:0]) == 0.0


def test_the_all_negative_answer_to_frames_has_the_published_weighted_f1() -> None:
    """BAH at ABAW-8, validation: 20,337 of 89,600 frames are positive, and nobody has to look (.6741)."""
    labels = np.arange(89_600) < 20_337
    metric = metric_of_classes("weighted_f1", 2)
    assert metric(labels.astype(np.int64), np.zeros(89_600, np.int64)) == pytest.approx(0.6741, abs=5e-5)


@pytest.mark.parametrize("name", [*CLASS_METRICS, *INTENSITY_METRICS])
def test_sums_of_parts_are_those_of_the_whole(name: str) -> None:
    rng = np.random.default_rng(1)
    if name in CLASS_METRICS:
        metric, (truths, answers) = metric_of_classes(name, 3), rng.integers(0, 3, (2, 30))
    else:
        metric, (truths, answers) = metric_of_intensities(name, 2), rng.random((2, 30, 2))
    parts = [metric.sums(truths[part], answers[part]) for part in (slice(0, 7), slice(7, 8), slice(8, 30))]
    assert float(metric.score(np.sum(parts, axis=0))) == pytest.approx(metric(truths, answers), abs=1e-12)
