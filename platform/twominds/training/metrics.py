"""How good answers are, and what that is to be read against: the baselines that see no video."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.errors import ConfigError
from twominds.tasks import Classes, Task

IntArray = npt.NDArray[np.int64]
IntLike = IntArray | Sequence[int]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of answers, computed from sums over points, one point being what gets one prediction.

    What adds up over points adds up over people, splits and workers too: resampled people, groups and parts of a batch
    are scored from their sums. More is better in all of them.
    """

    name: str
    """What tables and cards call it: a key of `CLASS_METRICS` or `INTENSITY_METRICS`."""
    statistics: Callable[[npt.NDArray[Any], npt.NDArray[Any]], Numbers]
    """Truths and answers of P points -> what adds up [P, M]."""
    score: Callable[[Numbers], Numbers]
    """Sums [..., M] -> scores [...]; 0 where there is none (correlation with a constant, a class that is nowhere)."""

    def sums(self, truths: npt.ArrayLike, answers: npt.ArrayLike, known: npt.ArrayLike | None = None) -> Numbers:
        """What adds up [M].

        Args:
            truths: Of P points: classes [P], or intensities [P, K].
            answers: Answers of the same shape as the truths.
            known: Which truths somebody annotated [P]; the others weigh nothing, whatever stands there. None: all.

        Raises:
            ValueError: the shapes differ.
        """
        truth, answer = np.asarray(truths), np.asarray(answers)
        if truth.shape != answer.shape:
            raise ValueError(f"{len(truth)} labels but {len(answer)} predictions, {truth.shape} and {answer.shape}")
        if known is not None:
            truth, answer = truth[np.asarray(known, np.bool_)], answer[np.asarray(known, np.bool_)]
        return self.statistics(truth, answer).sum(axis=0)

    def __call__(self, truths: npt.ArrayLike, answers: npt.ArrayLike, known: npt.ArrayLike | None = None) -> float:
        """The score of all points together; arguments as for `sums`."""
        return float(self.score(self.sums(truths, answers, known)))

    def resampled(
        self, truths: npt.NDArray[Any], answers: npt.NDArray[Any], owners: IntArray, times: Numbers
    ) -> Numbers:
        """The score in each of B resamples of people.

        Args:
            truths: Classes or intensities of N points, each of them known.
            answers: Answers of the same shape as the truths.
            owners: The person of each point [N], below P.
            times: How often each person is in each resample [B, P].
        """
        points = self.statistics(truths, answers)
        of_people = np.zeros((times.shape[1], points.shape[1]))
        np.add.at(of_people, owners, points)
        # Counts are whole numbers far below 2^53, so float64 (which has a fast product) is exact.
        return self.score(times @ of_people)


def metric_of(task: Task, name: str = "") -> Metric:
    """What the task's answers are scored by: its own metric, or another of its kind.

    Raises:
        ConfigError: there is no metric of that name for such answers.
    """
    name, classes = name or task.metric, isinstance(task.output, Classes)
    known: Mapping[str, Any] = CLASS_METRICS if classes else INTENSITY_METRICS
    if name not in known:
        kind = "classes" if classes else "intensities"
        raise ConfigError(f"{task.name} is about {kind}, which {', '.join(known)} measure, not {name!r}.")
    return (metric_of_classes if classes else metric_of_intensities)(name, task.num_outputs)


def metric_of_classes(name: str, num_classes: int) -> Metric:
    """A metric of `CLASS_METRICS`; the positive class is the last one."""

    def statistics(truths: npt.NDArray[Any], answers: npt.NDArray[Any]) -> Numbers:
        classes = np.arange(num_classes)
        truth, answer = truths[:, None] == classes, answers[:, None] == classes
        return np.hstack([truth & answer, truth, answer]).astype(np.float64)

    return Metric(name=name, statistics=statistics, score=lambda sums: CLASS_METRICS[name](*_parts(sums, 3)))


def metric_of_intensities(name: str, num_outputs: int) -> Metric:
    """A metric of `INTENSITY_METRICS`: the mean over the outputs."""

    def statistics(truths: npt.NDArray[Any], answers: npt.NDArray[Any]) -> Numbers:
        truth, answer = (np.asarray(values, np.float64).reshape(-1, num_outputs) for values in (truths, answers))
        return np.hstack([np.ones_like(truth), truth, answer, truth**2, answer**2, truth * answer])

    return Metric(name=name, statistics=statistics, score=lambda sums: per_output(name, sums).mean(axis=-1))


def per_output(name: str, sums: Numbers) -> Numbers:
    """A metric of `INTENSITY_METRICS` for each output by itself: sums [..., 6 * K] -> [..., K]."""
    count, truth, answer, truth_squared, answer_squared, product = _parts(sums, 6)
    count = np.maximum(count, 1)
    means = truth / count, answer / count
    variances = _variance(truth_squared / count, means[0]), _variance(answer_squared / count, means[1])
    return INTENSITY_METRICS[name](means, variances, product / count - means[0] * means[1])


def _f1(hits: Numbers, truth: Numbers, answer: Numbers) -> Numbers:
    """F1 of each class: 2 TP / (2 TP + FP + FN)."""
    return 2 * hits / np.maximum(truth + answer, 1)


def _weighted_f1(hits: Numbers, truth: Numbers, answer: Numbers) -> Numbers:
    return (_f1(hits, truth, answer) * truth).sum(axis=-1) / np.maximum(truth.sum(axis=-1), 1)


CLASS_METRICS: Mapping[str, Callable[[Numbers, Numbers, Numbers], Numbers]] = {
    "macro_f1": lambda hits, truth, answer: _f1(hits, truth, answer).mean(axis=-1),
    "weighted_f1": _weighted_f1,
    "positive_f1": lambda hits, truth, answer: _f1(hits, truth, answer)[..., -1],
    "accuracy": lambda hits, truth, answer: hits.sum(axis=-1) / np.maximum(truth.sum(axis=-1), 1),
}
"""Scores from counts of right answers, truths and answers per class [..., C].

As scikit-learn's with all classes as `labels` and `zero_division=0`: macro F1 is the unweighted mean over classes,
weighted F1 that by how often a class is true."""


def _variance(mean_of_squares: Numbers, mean: Numbers) -> Numbers:
    """Population variance; 0 where it is rounding alone."""
    variance = mean_of_squares - mean**2
    return np.where(variance <= 1e-12 * mean_of_squares, 0.0, variance)


def _pearson(_: tuple[Numbers, Numbers], variances: tuple[Numbers, Numbers], covariance: Numbers) -> Numbers:
    return _ratio(covariance, np.sqrt(variances[0] * variances[1]))


def _concordance(means: tuple[Numbers, Numbers], variances: tuple[Numbers, Numbers], covariance: Numbers) -> Numbers:
    varies = variances[0] * variances[1] > 0
    return _ratio(np.where(varies, 2 * covariance, 0.0), sum(variances) + (means[0] - means[1]) ** 2)


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


INTENSITY_METRICS: Mapping[str, Callable[[tuple[Numbers, Numbers], tuple[Numbers, Numbers], Numbers], Numbers]] = {
    "pearson": _pearson,
    "ccc": _concordance,
}
"""Scores from means, variances and covariance of truths and answers per output [..., K]: Pearson's correlation, and
Lin's concordance correlation coefficient (1989), 2 cov / (var + var + (mean - mean)^2)."""


def _parts(sums: Numbers, count: int) -> list[Numbers]:
    return np.split(sums, count, axis=-1)


def confusion(labels: IntLike, predictions: IntLike, num_classes: int) -> IntArray:
    """Counts [C, C]: row = true class, column = predicted class."""
    truth, guess = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if truth.shape != guess.shape:
        raise ValueError(f"{len(truth)} labels but {len(guess)} predictions")
    counts = np.bincount(truth * num_classes + guess, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


def macro_f1(labels: IntLike, predictions: IntLike, num_classes: int) -> float:
    """Unweighted mean over all `num_classes` classes of F1 = 2 TP / (2 TP + FP + FN), in [0, 1].

    A class that is neither true nor predicted anywhere counts as 0: scikit-learn's `f1_score(average="macro",
    labels=range(num_classes), zero_division=0)`.
    """
    return metric_of_classes("macro_f1", num_classes)(labels, predictions)


def question_baseline(
    train_labels: IntLike,
    train_questions: Sequence[int | None],
    questions: Sequence[int | None],
    num_classes: int,
) -> IntArray:
    """Predict for every question the most frequent class that it has in the training split.

    What can be had without looking at the video: on BAH's first public split MF1 0.671 / 0.702 (validation / test). A
    question that training never saw gets the overall majority.
    """
    labels = np.asarray(train_labels, dtype=np.int64)
    overall = majority(labels, num_classes)
    asked = np.array([-1 if question is None else question for question in train_questions])
    answer = {int(q): majority(labels[asked == q], num_classes) for q in np.unique(asked)}
    return np.array([answer.get(-1 if q is None else q, overall) for q in questions], dtype=np.int64)


def majority(train_labels: IntLike, num_classes: int) -> int:
    """The training split's most frequent class, of equals the first: the guess for a clip that has no score."""
    return int(np.bincount(np.asarray(train_labels, dtype=np.int64), minlength=num_classes).argmax())
