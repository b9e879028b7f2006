from typing import Any, cast

import numpy as np
import pytest
import sklearn.metrics

from twominds.training.metrics import confusion, grouped_macro_f1, macro_f1, majority_baseline, question_baseline


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


def test_per_group_leaves_out_clips_without_one() -> None:
    scores = grouped_macro_f1([0, 1, 0, 1, 1], [0, 1, 1, 0, 1], [2, 2, 1, 1, None], 2)
    assert list(scores) == ["1", "2"]
    assert (scores["2"].clips, scores["2"].macro_f1) == (2, 1.0)
    assert (scores["1"].clips, scores["1"].macro_f1) == (2, 0.0)


def test_majority_baseline_comes_from_training_labels() -> None:
    assert majority_baseline([1, 1, 0], 4, 2).tolist() == [1, 1, 1, 1]


def test_question_baseline_by_hand() -> None:
    train_labels, train_questions = [1, 1, 0, 0, 0, 1], [4, 4, 4, 1, 1, None]
    answer = question_baseline(train_labels, train_questions, [1, 4, 7, None], 2)
    assert answer.tolist() == [0, 1, 0, 1]  # question 7 is new: the overall majority (of equals the first)
