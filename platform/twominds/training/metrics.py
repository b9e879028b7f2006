"""Macro F1 and what it is to be read against: per group, and the baselines that see no video."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
IntLike = IntArray | Sequence[int]


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
    counts = confusion(labels, predictions, num_classes)
    hits: IntArray = counts.diagonal()
    total: IntArray = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(total, 1)))


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """Macro F1 within one group of clips."""

    clips: int
    macro_f1: float


def grouped_macro_f1(
    labels: IntLike, predictions: IntLike, groups: Sequence[object], num_classes: int
) -> dict[str, GroupScore]:
    """Macro F1 per group (question, gender, age range, ...), by the groups' names in order.

    Clips whose group is None (the corpus does not say) are left out.
    """
    truth, guess = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    names = np.array(["" if group is None else str(group) for group in groups])
    scores: dict[str, GroupScore] = {}
    for name in sorted(set(names.tolist()) - {""}):
        chosen = names == name
        score = macro_f1(truth[chosen], guess[chosen], num_classes)
        scores[name] = GroupScore(clips=int(chosen.sum()), macro_f1=score)
    return scores


def majority_baseline(train_labels: IntLike, clips: int, num_classes: int) -> IntArray:
    """Predict the training split's most frequent class (of equals the first) for every one of `clips` clips."""
    return np.full(clips, majority(train_labels, num_classes), dtype=np.int64)


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
