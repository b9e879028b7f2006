"""A folder of results is of one corpus with one making, and nothing is mixed into it."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from twominds.errors import ConfigError
from twominds.records import Clip, Split, clip_labels
from twominds.results import tables
from twominds.results.about import About, absolute, claim_folder, read_about

ABOUT = About(recipe="leya", corpus="/data/a", models="/models", fingerprint="f1")
CLIPS = [
    Clip(clip_id="1.mp4", video_uri="/data/a/1.mp4", split=Split.TRAIN, labels=clip_labels(0)),
    Clip(clip_id="2.mp4", video_uri="/data/a/2.mp4", split=Split.VALIDATION, labels=clip_labels(1)),
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


def test_what_costs_little_is_replaced_where_it_was_made_otherwise(folder: str) -> None:
    other = replace(ABOUT, fingerprint="f2")
    claim_folder(folder, replace(ABOUT, recipe="leya/search"), renewable=True)
    assert len(tables.read_clips(folder)) == 3, "another recipe that makes the same"
    with pytest.raises(ConfigError, match="not of those at"):
        claim_folder(folder, replace(other, corpus="/data/b"), renewable=True)
    claim_folder(folder, other, renewable=True)
    assert tables.read_clips(folder) == []
    assert read_about(folder) == other


def test_pooled_features_are_not_mixed_in_where_there_are_none(folder: str) -> None:
    pooled = replace(ABOUT, recipe="leya-pooled", pooled=True)
    with pytest.raises(ConfigError, match="made for recipe leya, without the pooled features that are asked for now"):
        claim_folder(folder, pooled)
    assert read_about(folder) == ABOUT
    claim_folder(folder, pooled, renewable=True)
    assert tables.read_clips(folder) == []
    assert read_about(folder) == pooled


def test_a_place_means_the_same_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("videos") == str(tmp_path / "videos")
    assert absolute("s3://bucket/videos") == "s3://bucket/videos"
