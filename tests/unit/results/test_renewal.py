"""A folder of results follows its corpus: what has changed goes, what is only said otherwise is mended."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from twominds.errors import ConfigError
from twominds.records import PRESENT, Clip, Failure, Features, Modality, Source, Split, View, clip_labels
from twominds.results import tables
from twominds.results.quarantine import put_aside, quarantined_clips
from twominds.results.renewal import renew, replace_text

CLIPS = [
    Clip(
        clip_id=f"{i}.mp4",
        video_uri=f"/v/{i}.mp4",
        split=Split.TRAIN,
        labels=clip_labels(0),
        participant_id=f"p{i}",
        attributes={"gender": "f"},
        transcript=f"words {i}",
        source=Source(video=f"v{i}", words=f"w{i}"),
    )
    for i in range(5)
]
AUDIO = [f.name for f in tables.features_fields(Modality.AUDIO)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Features of clips 0 to 3 in two files; clip 4 is in quarantine."""
    write_features(tmp_path, CLIPS[:2], (Modality.AUDIO,), name="a")
    write_features(tmp_path, CLIPS[2:4], (Modality.AUDIO,), name="b")
    put_aside(str(tmp_path), "c", [(CLIPS[4], Failure(clip_id="4.mp4", stage="decode", reason="/v/4.mp4 is empty."))])
    return str(tmp_path)


def write_features(
    folder: Path, clips: Sequence[Clip], views: Sequence[View], *, name: str = "0", shift: int = 0
) -> None:
    """A file of features whose values are the clip's number, shifted."""
    table = tables.clips_to_table(clips).drop_columns(["transcript"])
    for view in views:
        values = [np.full((2, 3), int(clip.clip_id[0]) + shift, np.float32) for clip in clips]
        features = [
            Features(clip_id=clip.clip_id, view=view, presence=PRESENT, values=array, pooled=array[0])
            for clip, array in zip(clips, values, strict=True)
        ]
        rows = [tables.features_to_row(one) for one in features]
        table = tables.append_columns(table, tables.features_fields(view), rows)
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / f"{name}.parquet")


def state(folder: str) -> dict[str, tuple[int, bytes]]:
    """Of all files: another inode is another file, although it holds the same."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in files}


def held(folder: str) -> dict[str, float]:
    """The planted number of each clip that the folder holds."""
    rows = tables.read_rows(folder, AUDIO)
    found = {row["clip_id"]: tables.features_from_row(row, Modality.AUDIO).values for row in rows}
    return {clip_id: float(values[0, 0]) for clip_id, values in found.items() if values is not None}


def test_what_has_not_changed_is_not_touched(folder: str) -> None:
    before = state(folder)
    renewal = renew(folder, CLIPS)
    assert renewal.done == {"0.mp4", "1.mp4", "2.mp4", "3.mp4"}
    assert renewal.notes() == []
    assert state(folder) == before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source(video="v0", words="new"), "1 transcript"),
        (Source(video="new", words="w0"), "1 video"),
        (Source(video="new", words="new"), "1 transcript and 1 video"),
    ],
)
def test_the_row_of_a_changed_clip_goes_and_no_other(folder: str, source: Source, said: str) -> None:
    before = state(folder)
    renewal = renew(folder, [replace(CLIPS[0], source=source), *CLIPS[1:]])
    assert renewal.done == {"1.mp4", "2.mp4", "3.mp4"}
    assert renewal.notes() == [f"Changed since they were made: {said}; 1 clip to be made again."]
    assert held(folder) == {"1.mp4": 1.0, "2.mp4": 2.0, "3.mp4": 3.0}
    after = state(folder)
    assert after.pop("a.parquet") != before.pop("a.parquet")
    assert after == before


def test_what_has_vectors_is_compared_by_its_source(folder: str) -> None:
    before = state(folder)
    vectors = {"x": np.ones(3, np.float32)}
    renewal = renew(folder, [replace(clip, vectors=vectors) for clip in CLIPS])
    assert (renewal.notes(), state(folder)) == ([], before)


def test_what_was_made_before_sources_were_kept_is_made_again(folder: str) -> None:
    path = Path(folder) / "a.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["source"]), path)
    renewal = renew(folder, CLIPS)
    assert renewal.again == {"0.mp4", "1.mp4"}
    assert renewal.notes() == ["Made by an older version, which did not keep of what: 2 clips."]
    assert sorted(held(folder)) == ["2.mp4", "3.mp4"]


def test_a_clip_in_quarantine_is_tried_again_once_its_file_is_another(folder: str) -> None:
    renewal = renew(folder, [*CLIPS[:4], replace(CLIPS[4], source=Source(video="mended", words="w4"))])
    assert renewal.again == {"4.mp4"}
    assert quarantined_clips(folder) == []
    assert len(held(folder)) == 4


def test_a_mended_label_costs_no_features(folder: str) -> None:
    said: dict[str, Any] = {
        "labels": clip_labels(1),
        "split": Split.TEST,
        "participant_id": None,
        "question": 7,
        "attributes": {},
    }
    mended = replace(CLIPS[2], **said)
    before, rows = state(folder), held(folder)
    renewal = renew(folder, [*CLIPS[:2], mended, CLIPS[3], replace(CLIPS[4], labels=clip_labels(1))])
    assert renewal.done == {clip.clip_id for clip in CLIPS[:4]}
    assert renewal.mended == dict.fromkeys(said, 1) | {"labels": 2}
    assert held(folder) == rows
    assert state(folder)["a.parquet"] == before["a.parquet"]
    clips = {clip.clip_id: clip for clip in tables.read_clips(folder)}
    assert clips["2.mp4"] == replace(mended, transcript=None)
    assert clips["3.mp4"] == replace(CLIPS[3], transcript=None)
    ((aside, _),) = quarantined_clips(folder)
    assert aside.label == 1
    assert renew(folder, [*tables.read_clips(folder), aside]).notes() == []


def test_who_leaves_the_corpus_is_removed_from_results_and_quarantine(folder: str) -> None:
    renewal = renew(folder, CLIPS[1:2])
    assert renewal.gone == {"0.mp4", "2.mp4", "3.mp4", "4.mp4"}
    assert renewal.notes() == ["No longer in the corpus: 4 clips. What was made of them is removed."]
    assert list(state(folder)) == ["a.parquet"]
    left = (Path(folder) / "a.parquet").read_bytes()
    assert held(folder) == {"1.mp4": 1.0}
    assert b"p0" not in left


def test_a_folder_none_of_whose_clips_is_there_is_of_another_corpus(folder: str) -> None:
    before = state(folder)
    with pytest.raises(ConfigError, match=r"None of the clips .* Choose another --output"):
        renew(folder, [replace(CLIPS[0], clip_id="other")])
    assert state(folder) == before


def test_a_disk_that_is_not_mounted_costs_nothing(folder: str) -> None:
    before = state(folder)
    away = [replace(clip, source=Source(video="", words=f"w{i}")) for i, clip in enumerate(CLIPS)]
    renewal = renew(folder, away)
    assert renewal.done == {clip.clip_id for clip in CLIPS[:4]}
    assert "5 videos" in renewal.notes()[0]
    assert state(folder) == before


def test_a_quarantine_without_a_source_is_of_an_older_version(folder: str) -> None:
    path = Path(folder) / "quarantine" / "c.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({name: row[name] for name in ("clip_id", "video_uri", "stage", "reason")}) + "\n")
    assert renew(folder, CLIPS).again == {"4.mp4"}


def test_of_features_new_words_cost_the_text_alone(tmp_path: Path) -> None:
    """Clips 0 and 1 have other words; the text of 1 cannot be made. Clip 2 has another video."""
    uri, again = tmp_path / "features", tmp_path / "features" / "texts"
    write_features(uri, CLIPS[:3], (Modality.AUDIO, Modality.TEXT))
    other = [
        replace(clip, labels=clip_labels(1), source=Source(video=f"v{i}", words="new"))
        for i, clip in enumerate(CLIPS[:2])
    ]
    other += [replace(CLIPS[2], source=Source(video="new", words="w2"))]
    renewal = renew(str(uri), other, words="text")
    assert (renewal.reworded, renewal.again, renewal.done) == ({"0.mp4", "1.mp4"}, {"2.mp4"}, set())
    assert renewal.notes() == [
        "Changed since they were made: 2 transcripts and 1 video; 1 clip and the text of 2 clips to be made again."
    ]
    assert renew(str(uri), other[:2], words="text").reworded == renewal.reworded, "until they have been replaced"
    write_features(again, other[:1], (Modality.TEXT,), shift=100)
    put_aside(str(again), "x", [(other[1], Failure(clip_id="1.mp4", stage="features.text", reason="no."))])
    replace_text(str(uri), str(again))
    assert not again.exists()
    (row,) = tables.read_rows(str(uri))
    assert tables.clip_from_row(row) == replace(other[0], transcript=None)
    values = [tables.features_from_row(row, view).values for view in (Modality.AUDIO, Modality.TEXT)]
    assert [float(found[0, 0]) for found in values if found is not None] == [0.0, 100.0]
    ((lost, failure),) = quarantined_clips(str(uri))
    assert (lost.clip_id, lost.source, failure.stage) == ("1.mp4", other[1].source, "features.text")
    assert renew(str(uri), other[:2], words="text").done == {"0.mp4"}


def test_texts_of_several_views_are_replaced_together(tmp_path: Path) -> None:
    uri, again, texts = tmp_path / "features", tmp_path / "features" / "texts", ("text.rows", "text.e5")
    write_features(uri, CLIPS[:2], ("text.given", *texts))
    write_features(again, CLIPS[:1], texts, shift=100)
    replace_text(str(uri), str(again), texts)
    rows = tables.read_rows(str(uri))
    found = [[tables.features_from_row(row, view).values for row in rows] for view in ("text.given", *texts)]
    assert [[float(values[0, 0]) for values in of_view if values is not None] for of_view in found] == [
        [0.0, 1.0],
        [100.0, 1.0],
        [100.0, 1.0],
    ]


def test_new_words_cost_nothing_where_nobody_reads_them(folder: str) -> None:
    other = [replace(clip, source=Source(video=f"v{i}", words="new")) for i, clip in enumerate(CLIPS[:4])]
    before = held(folder)
    renewal = renew(folder, [*other, CLIPS[4]], words="nothing")
    assert (renewal.done, renewal.notes()) == ({clip.clip_id for clip in CLIPS[:4]}, [])
    assert held(folder) == before
    assert renew(folder, [*other, CLIPS[4]]).done == {clip.clip_id for clip in CLIPS[:4]}, "the rows know the new words"
