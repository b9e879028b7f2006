"""A folder of results is of one corpus with one making, and nothing is mixed into it."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from twominds.errors import ConfigError
from twominds.pipelines import tables
from twominds.pipelines.about import About, absolute, claim_folder, ids_done, read_about
from twominds.records import Clip, Split

ABOUT = About(recipe="leya", corpus="/data/a", models="/models", fingerprint="f1")
CLIPS = [
    Clip(clip_id="1.mp4", video_uri="/data/a/1.mp4", split=Split.TRAIN, label=0),
    Clip(clip_id="2.mp4", video_uri="/data/a/2.mp4", split=Split.VALIDATION, label=1),
    Clip(clip_id="3.mp4", video_uri="/data/a/3.mp4"),
]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    claim_folder(str(tmp_path / "results"), ABOUT)
    pq.write_table(tables.clips_to_table(CLIPS), tmp_path / "results" / "0.parquet")
    return str(tmp_path / "results")


def test_the_same_making_goes_on_wherever_the_bundle_was_copied_to(folder: str) -> None:
    claim_folder(folder, replace(ABOUT, models="s3://elsewhere/models"))
    assert read_about(folder) == ABOUT


def test_other_videos_and_other_settings_are_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match=r"of the videos at /data/a, not of those at /data/b\. Choose another"):
        claim_folder(folder, replace(ABOUT, corpus="/data/b"))
    with pytest.raises(ConfigError, match=r"other settings or weights \(f1, now f2\)"):
        claim_folder(folder, replace(ABOUT, fingerprint="f2"))


def test_a_corpus_may_grow_but_not_change_under_its_results(folder: str) -> None:
    ids_done(folder, [*CLIPS, Clip(clip_id="4.mp4", video_uri="/data/a/4.mp4", split=Split.TEST, label=0)])
    with pytest.raises(ConfigError, match="1 clips are no longer there, 0 have another"):
        ids_done(folder, CLIPS[1:])
    changed = [replace(CLIPS[0], label=1), replace(CLIPS[1], split=Split.TEST), CLIPS[2]]
    with pytest.raises(ConfigError, match="0 clips are no longer there, 2 have another"):
        ids_done(folder, changed)


def test_rows_without_anything_personal_are_enough_to_compare_with(folder: str) -> None:
    """As in the later jobs, whose corpus is the folder that the job before them wrote."""
    assert ids_done(folder, tables.read_clips(folder)) == {"1.mp4", "2.mp4", "3.mp4"}


def test_a_training_knows_its_data_by_clips_splits_and_labels(folder: str, tmp_path: Path) -> None:
    def of(clips: list[Clip]) -> str:
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        pq.write_table(tables.clips_to_table(clips), other / "0.parquet")
        return tables.labels_fingerprint(str(other))

    same = tables.labels_fingerprint(folder)
    assert of(CLIPS[::-1]) == same
    assert of([replace(CLIPS[0], label=1), *CLIPS[1:]]) != same
    assert of([replace(CLIPS[0], split=Split.TEST), *CLIPS[1:]]) != same
    assert of(CLIPS[:2]) != same


def test_a_place_means_the_same_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("videos") == str(tmp_path / "videos")
    assert absolute("s3://bucket/videos") == "s3://bucket/videos"
