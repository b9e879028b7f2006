"""The tables of batch scoring for each kind of task, from scores as they are stored to lines worked out by hand."""

import csv
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from twominds.artifacts import Card
from twominds.records import PRESENT, Contributions, Modality, Score, ScoredSegment, Timeline, View, ViewScore, absent
from twominds.reports.submission import details, segments, submission, timeline_table
from twominds.results import score_rows
from twominds.results.tables import Row
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, Task

FACE, TEXT = Modality.FACE, Modality.TEXT
VIEWS: tuple[View, ...] = (FACE, "face.effnet", TEXT)
SIX = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def card_of(task: Task, **data: Any) -> Card:
    return Card(kind="ensemble", artifact_id="abc", task=task, recipe="test", config={}, data=data)


def score_of(probabilities: tuple[float, ...], **more: Any) -> Score:
    fields: dict[str, Any] = {
        "clip_id": "a",
        "probabilities": probabilities,
        "label": None,
        "threshold": 0.5,
        "seed_probabilities": (0.5,),
        "views": (
            ViewScore(view=FACE, presence=PRESENT, probability=None),
            ViewScore(view="face.effnet", presence=PRESENT, probability=None),
            ViewScore(view=TEXT, presence=absent("no words"), probability=None),
        ),
        "artifact_id": "abc",
        "weights": "published",
    }
    return Score(**(fields | more))


def stored(score: Score, own: tuple[float, ...] = ()) -> Row:
    """The row of a score, as it comes back out of its Parquet file."""
    table = pa.Table.from_pylist([score_rows.score_to_row(score)], schema=pa.schema(score_rows.SCORE_FIELDS))
    (row,) = table.to_pylist()
    for view in VIEWS:
        there = view != TEXT
        row |= {f"{view}_present": there, f"{view}_reason": "" if there else "no words"}
        row[f"{view}_probabilities"] = list(own) if there else None
    return row


def timed(
    task: Task, points_s: list[float], outputs: list[list[float]], labels: list[int] | None, **more: Any
) -> Score:
    found = Timeline(
        points_s=np.array(points_s),
        outputs=np.array(outputs),
        labels=None if labels is None else np.array(labels),
        **more,
    )
    del task
    return score_of(tuple(np.mean(outputs, axis=0).tolist()), timeline=found)


FRAMES = timed(
    AH_FRAME,
    [0.0, 0.5, 1.0],
    [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]],
    [0, 1, 1],
    segments=(ScoredSegment(start_s=0.25, end_s=1.25, label=1, probability=0.625),),
)


def test_intensities_are_submitted_by_their_names() -> None:
    card = card_of(MIMICRY, train_means=dict(zip(MIMICRY.names, SIX, strict=True)))
    lines = submission(["a", "b"], {"a": stored(score_of((0.6, 0.5, 0.4, 0.3, 0.2, 1 / 3)))}, card).splitlines()
    assert lines == [
        "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
        "a,0.600000000,0.500000000,0.400000000,0.300000000,0.200000000,0.333333333",
        "b,0.100000000,0.200000000,0.300000000,0.400000000,0.500000000,0.600000000",
    ]
    assert submission(["b"], {}, card_of(MIMICRY)).splitlines()[1] == "b" + ",0.500000000" * 6


def test_a_task_per_frame_is_submitted_as_means_without_a_class() -> None:
    card = card_of(AH_FRAME, train_labels={"no_ah": 3, "ah": 1})
    lines = submission(["a", "b"], {"a": stored(FRAMES)}, card).splitlines()
    assert lines == ["id,p0,p1", "a,0.500000000,0.500000000", "b,0.750000000,0.250000000"]
    eight = stored(timed(EXPRESSION, [0.0], [[1 / 8] * 8], [0]))
    (header, line) = submission(["a"], {"a": eight}, card_of(EXPRESSION)).splitlines()
    assert header == "id,p0,p1,p2,p3,p4,p5,p6,p7"
    assert line == "a" + ",0.125000000" * 8


def test_two_classes_of_a_clip_are_submitted_as_ever() -> None:
    row = stored(score_of((0.375, 0.625), label=1))
    assert submission(["a"], {"a": row}, card_of(AH_VIDEO)) == "id,p0,p1,pred\na,0.375000000,0.625000000,1\n"


def test_segments_by_hand() -> None:
    rows = {"a": stored(FRAMES), "c": stored(score_of((0.5, 0.5)))}
    lines = segments(["c", "a", "b"], rows, card_of(AH_FRAME)).splitlines()
    assert lines == ["id,start_s,end_s,label,probability", "a,0.250,1.250,ah,0.625000"]
    assert segments([], {}, card_of(AH_FRAME)) == "id,start_s,end_s,label,probability\n"


def test_a_row_for_each_point() -> None:
    found = timeline_table(["b", "a"], {"a": stored(FRAMES)}, card_of(AH_FRAME))
    assert found.to_pylist() == [
        {"id": "a", "time_s": 0.0, "p_no_ah": 0.75, "p_ah": 0.25, "label": "no_ah"},
        {"id": "a", "time_s": 0.5, "p_no_ah": 0.25, "p_ah": 0.75, "label": "ah"},
        {"id": "a", "time_s": 1.0, "p_no_ah": 0.5, "p_ah": 0.5, "label": "ah"},
    ]
    again = stored(timed(EXPRESSION, [2.0], [[0.3, *[0.1] * 7]], [0]))
    (row,) = timeline_table(["a"], {"a": again}, card_of(EXPRESSION)).to_pylist()
    assert (row["label"], row["p_Neutral"], row["p_Other"]) == ("Neutral", 0.3, 0.1)
    empty = timeline_table(["b"], {}, card_of(AH_FRAME))
    assert (empty.num_rows, empty.column_names) == (0, ["id", "time_s", "p_no_ah", "p_ah", "label"])


def test_a_row_of_intensities_for_each_point() -> None:
    found = timeline_table(
        ["a"], {"a": stored(timed(MIMICRY, [0.5, 1.0], [[*SIX], [0.0] * 6], None))}, card_of(MIMICRY)
    )
    first, second = found.to_pylist()
    assert first == {"id": "a", "time_s": 0.5, **dict(zip(MIMICRY.names, SIX, strict=True))}
    assert second["Joy"] == 0.0


def lines_of(task: Task, row: Row) -> dict[str, str]:
    (line,) = csv.DictReader(details(["a"], {"a": row}, {}, card_of(task), VIEWS).splitlines())
    return line


def test_details_of_two_classes_with_contributions() -> None:
    made_of = Contributions(prior=(-1.0,), by_modality={FACE: (1.5,)}, opposed=None)
    line = lines_of(AH_VIDEO, stored(score_of((0.375, 0.625), label=1, contributions=made_of), (0.75, 0.25)))
    assert (line["answer"], line["threshold"], line["p_ah"]) == ("ah", "0.5", "0.625")
    assert (line["prior_ah"], line["face_adds_ah"], line["text_adds_ah"], line["opposed"]) == ("-1.0", "1.5", "", "")
    assert (line["face_probability"], line["face.effnet_probability"], line["text_probability"]) == ("0.25", "0.25", "")
    assert (line["text"], line["text_reason"]) == ("no", "no words")
    assert "prior_no_ah" not in line
    assert "face.effnet_adds_ah" not in line, "contributions are the modality's"


def test_details_of_a_task_per_frame() -> None:
    row = stored(FRAMES, (0.75, 0.25, 0.5, 0.5))
    line = lines_of(AH_FRAME, row)
    assert (line["answer"], line["p_ah"], line["threshold"]) == ("", "0.5", "0.5")
    assert line["face_probability"] == "0.375", "the mean over the points"


def test_details_of_intensities_and_of_several_classes() -> None:
    made_of = Contributions(
        prior=SIX, by_modality={FACE: SIX, TEXT: tuple(-v for v in SIX)}, opposed=(FACE, TEXT), interaction=0.5
    )
    line = lines_of(MIMICRY, stored(score_of(SIX, contributions=made_of), SIX))
    assert (line["answer"], line["threshold"], line["face_probability"]) == ("", "", "")
    assert [line[f"p_{name}"] for name in MIMICRY.names] == [str(v) for v in SIX]
    assert [line[f"prior_{name}"] for name in MIMICRY.names] == [str(v) for v in SIX]
    assert (line["face_adds_Joy"], line["text_adds_Joy"], line["opposed"]) == ("0.6", "-0.6", "face and text")
    eight = timed(EXPRESSION, [0.0], [[0.3, *[0.1] * 7]], [0])
    line = lines_of(EXPRESSION, stored(eight, (0.125,) * 8))
    assert (line["answer"], line["threshold"], line["face_probability"], line["p_Neutral"]) == ("", "", "", "0.3")


@pytest.mark.parametrize("task", [AH_VIDEO, MIMICRY, EXPRESSION, AH_FRAME], ids=lambda task: task.name)
def test_a_clip_without_a_score_has_its_line_everywhere(task: Task) -> None:
    assert len(submission(["a", "b"], {}, card_of(task)).splitlines()) == 3
    assert len(details(["a", "b"], {}, {}, card_of(task), VIEWS).splitlines()) == 3
