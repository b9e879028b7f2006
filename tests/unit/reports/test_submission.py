"""The tables of batch scoring, against lines worked out by hand: every clip that was asked for has one."""

import csv
from decimal import Decimal

import pytest

from twominds.artifacts import Card
from twominds.records import Failure, Modality
from twominds.reports.submission import details, submission
from twominds.results.tables import Row
from twominds.tasks import AH_VIDEO

CARD = Card(
    kind="ensemble",
    artifact_id="abc",
    task=AH_VIDEO,
    recipe="leya",
    config={},
    data={"train_labels": {"no_ah": 1, "ah": 3}},
)


def scored(probability: float) -> Row:
    return {"probabilities": [1 - probability, probability], "predicted": int(probability >= 0.5)}


def test_probabilities_add_up_to_one_in_decimals_and_in_floats() -> None:
    rows = {str(i): scored(p) for i, p in enumerate((0.0, 1.0, 1 / 3, 0.1, 0.123456789987, 1e-12))}
    header, *lines = submission([*rows], rows, CARD).splitlines()
    assert header == "id,p0,p1,pred"
    for line, given in zip(lines, rows.values(), strict=True):
        _, p0, p1, predicted = line.split(",")
        assert Decimal(p0) + Decimal(p1) == 1
        assert float(p0) + float(p1) == 1.0
        assert float(p1) == pytest.approx(given["probabilities"][1], abs=1e-9)
        assert predicted == str(given["predicted"])


def test_a_clip_without_a_score_has_the_shares_of_the_training_labels() -> None:
    lines = submission(["a", "b"], {"a": scored(0.25)}, CARD).splitlines()[1:]
    assert lines == ["a,0.750000000,0.250000000,0", "b,0.250000000,0.750000000,1"]
    imported = Card(kind="ensemble", task=AH_VIDEO, recipe="leya", config={})
    assert submission(["b"], {}, imported).splitlines()[1:] == ["b,0.500000000,0.500000000,0"]


def test_a_submission_of_nothing_has_its_header() -> None:
    assert submission([], {}, CARD) == "id,p0,p1,pred\n"


def test_details_say_what_was_there_and_why_there_is_no_score() -> None:
    row = scored(0.625) | {
        "threshold": 0.5,
        "abstains": True,
        "transcript_source": "subtitles",
        "warnings": ["The sound was cut at 60 s.", "The transcript was cut."],
        "text_present": True,
        "text_reason": "",
        "text_probabilities": [0.75, 0.25],
        "face_present": False,
        "face_reason": "no face, in any frame",
        "face_probabilities": None,
        "contributions": {
            "prior": (0.75,),
            "modalities": [{"modality": "text", "values": (-0.25,)}],
            "opposed": None,
            "interaction": 0.0,
        },
    }
    broken = Failure(clip_id="b", stage="decode", reason="b.mp4 is no video.")
    text = details(["a", "b", "c"], {"a": row}, {"b": broken}, CARD, (Modality.FACE, Modality.TEXT))
    first, second, third = csv.DictReader(text.splitlines())
    assert first == {
        "id": "a",
        "answer": "ah",
        "p_no_ah": "0.375",
        "p_ah": "0.625",
        "abstains": "yes",
        "threshold": "0.5",
        "face": "no",
        "face_reason": "no face, in any frame",
        "face_probability": "",
        "text": "yes",
        "text_reason": "",
        "text_probability": "0.25",
        "prior_ah": "0.75",
        "face_adds_ah": "",
        "text_adds_ah": "-0.25",
        "opposed": "",
        "transcript_source": "subtitles",
        "warnings": "The sound was cut at 60 s. The transcript was cut.",
        "failed_in": "",
        "error": "",
        "ensemble": "abc",
        "weights": "published",
    }
    known = {"id": "b", "failed_in": "decode", "error": "b.mp4 is no video.", "ensemble": "abc", "weights": "published"}
    assert {name: cell for name, cell in second.items() if cell} == known
    assert {name for name, cell in third.items() if cell} == {"id", "ensemble", "weights"}
