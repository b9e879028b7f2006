"""A summary says how many clips of each split lack what, and why; it names none of them."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from twominds.records import PRESENT, Clip, Failure, Features, Modality, Split, absent, clip_labels
from twominds.reports.coverage import WORDS_WANTED, add_coverage
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.quarantine import put_aside

LOOKED_AT = (Modality.AUDIO, Modality.TEXT)
NO_SOUND = absent("the file has no sound track")
NO_WORDS = absent("no transcript was given and the bundle has no speech recogniser")


def features(clip: Clip, *, sound: bool, words: bool) -> tables.Row:
    presence = {Modality.AUDIO: PRESENT if sound else NO_SOUND, Modality.TEXT: PRESENT if words else NO_WORDS}
    cells = [Features(clip_id=clip.clip_id, view=m, presence=presence[m]) for m in LOOKED_AT]
    return {name: value for cell in cells for name, value in tables.features_to_row(cell).items()}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Of five clips of train one is in quarantine; two of no split have no label, no words, and one no sound."""
    clips = [
        Clip(clip_id=f"anna-{i}.mp4", video_uri="", split=Split.TRAIN, labels=clip_labels(i % 2)) for i in range(4)
    ]
    clips += [Clip(clip_id=f"ben-{i}.mp4", video_uri="") for i in range(2)]
    rows = [features(clip, sound=i != 5, words=i < 4) for i, clip in enumerate(clips)]
    fields: list[pa.Field[Any]] = tables.features_fields(*LOOKED_AT)
    pq.write_table(tables.append_columns(tables.clips_to_table(clips), fields, rows), tmp_path / "0.parquet")
    lost = Clip(clip_id="carl.mp4", video_uri="/v/carl.mp4", split=Split.TRAIN, labels=clip_labels(1))
    put_aside(str(tmp_path), "0", [(lost, Failure(clip_id="carl.mp4", stage="decode", reason="/v/carl.mp4 is empty."))])
    return str(tmp_path)


def shown(summary: Summary) -> str:
    printed = io.StringIO()
    summary.show(Console(file=printed, width=160))
    return printed.getvalue()


def test_what_is_lacking_is_counted_per_split_with_its_reason(folder: str) -> None:
    summary = Summary(title="x", where=folder)
    add_coverage(summary, folder, LOOKED_AT)
    lines = [line.replace("│", " ").replace("┃", " ").split() for line in shown(summary).splitlines()]
    assert [line for line in lines if line and line[0] in ("train", "none", "all", "val", "test")] == [
        ["train", "5", "1", "0", "0", "0"],
        ["none", "2", "0", "2", "1", "2"],
        ["all", "7", "1", "2", "1", "2"],
    ]
    assert dict(summary.facts) == {
        "without audio": "1 of 7: 1 x the file has no sound track",
        "without text": "2 of 7: 2 x no transcript was given and the bundle has no speech recogniser",
    }
    assert list(summary.notes) == [WORDS_WANTED]
    assert not any(name in shown(summary) for name in ("anna", "ben", "carl"))


def test_nothing_is_said_of_modalities_that_are_there(folder: str) -> None:
    (Path(folder) / "0.parquet").unlink()
    summary = Summary(title="x", where=folder, notes=["before"])
    add_coverage(summary, folder, LOOKED_AT)
    assert summary.facts == []
    assert summary.notes == ["before"]


def test_brackets_in_a_reason_are_no_markup() -> None:
    failure = Failure(clip_id="a", stage="decode", reason="The file cannot be opened: [Errno 13] [red]no.")
    note = "Columns passed over: [a]."
    text = shown(Summary(title="x", where="/runs/[b]", failures=[failure], notes=[note], next_step="job --x [c]"))
    assert all(part in text for part in (failure.reason, note, "/runs/[b]", "job --x [c]"))
