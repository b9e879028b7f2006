"""What evaluation and batch scoring write, against tables worked out by hand."""

from decimal import Decimal

import pytest

from twominds.artifacts import Card
from twominds.pipelines.batch_score import submission
from twominds.pipelines.evaluate import per_question, results_table
from twominds.pipelines.tables import Row
from twominds.records import AH_VIDEO, Modality, Split

CARD = Card(kind="ensemble", task=AH_VIDEO, recipe="leya", config={}, seeds=(1, 2))


def row(clip_id: str, split: Split, label: int, question: int, seeds: tuple[float, float], text: float | None) -> Row:
    positive = sum(seeds) / 2
    unimodal = {f"{modality}_probabilities": None for modality in Modality}
    return {
        "clip_id": clip_id,
        "split": str(split),
        "label": label,
        "question": question,
        "probabilities": [1 - positive, positive],
        "predicted": int(positive >= 0.5),
        "threshold": 0.5,
        "seed_probabilities": list(seeds),
        **unimodal,
        "text_probabilities": None if text is None else [1 - text, text],
    }


ROWS = [
    row("a", Split.TEST, 1, 1, (0.9, 0.7), 0.2),
    row("b", Split.TEST, 0, 1, (0.2, 0.6), 0.1),
    row("c", Split.TEST, 1, 2, (0.4, 0.3), 0.8),
    row("d", Split.TEST, 0, 2, (0.1, 0.2), None),
]
TRAIN = [{"label": 0, "question": 1}, {"label": 0, "question": 1}, {"label": 1, "question": 2}]


def test_every_row_of_the_table_by_hand() -> None:
    table = {result.model: result for result in results_table(ROWS, TRAIN, CARD)}
    # Always 0: F1 of class 0 is 2*2/(2*2+2) = 2/3, of class 1 is 0.
    assert table["majority (baseline)"].mf1[Split.TEST] == pytest.approx(1 / 3)
    # Question 1 -> 0, question 2 -> 1: one right and one wrong of each class.
    assert table["question only (baseline)"].mf1[Split.TEST] == pytest.approx(0.5)
    # a: 0, b: 0, c: 1, d absent -> the majority, 0: class 0 has TP 2, FP 1; class 1 TP 1, FN 1.
    assert table["text"].mf1[Split.TEST] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert table["text"].absent[Split.TEST] == 1
    assert table["scene"].absent[Split.TEST] == 4
    # Ensemble: a 0.8 -> 1, b 0.4 -> 0, c 0.35 -> 0, d -> 0: the same confusion as text's.
    assert table["ensemble"].mf1[Split.TEST] == pytest.approx((4 / 5 + 2 / 3) / 2)
    # Seed 1: a 1, b 0, c 0, d 0 -> as above; seed 2: a 1, b 1, c 0, d 0 -> 0.5.
    single = table["single fusion (mean of 2 seeds)"]
    first = (4 / 5 + 2 / 3) / 2
    assert single.mf1[Split.TEST] == pytest.approx((first + 0.5) / 2)
    assert single.spread[Split.TEST] == pytest.approx((first - 0.5) / 2)


def test_a_split_without_labels_is_left_out() -> None:
    assert all(set(result.mf1) == {Split.TEST} for result in results_table(ROWS, TRAIN, CARD))


def test_per_question() -> None:
    assert per_question(ROWS, 2) == {"1": {Split.TEST: 1.0}, "2": {Split.TEST: pytest.approx(1 / 3)}}


def test_submission_adds_up_to_one_in_decimals_and_in_floats() -> None:
    rows = [
        row(str(i), Split.TEST, 0, 1, (p, p), None) for i, p in enumerate((0.0, 1.0, 1 / 3, 0.1, 0.123456789987, 1e-12))
    ]
    header, *lines = submission(rows).splitlines()
    assert header == "id,p0,p1,pred"
    for line, given in zip(lines, rows, strict=True):
        _, p0, p1, predicted = line.split(",")
        assert Decimal(p0) + Decimal(p1) == 1
        assert float(p0) + float(p1) == 1.0
        assert float(p1) == pytest.approx(given["probabilities"][1], abs=1e-9)
        assert predicted == str(given["predicted"])


def test_submission_of_nothing_has_its_header() -> None:
    assert submission([]) == "id,p0,p1,pred\n"
