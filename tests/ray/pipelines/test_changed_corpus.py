"""A table that was mended since: what has changed is made again, by preprocess and by embed, and nothing else."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twominds.corpus.manifest import read_corpus
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.records import Clip, Modality, View, clip_labels
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.quarantine import quarantined_clips

pytestmark = pytest.mark.ray


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def features(config: PreprocessConfig) -> dict[str, tuple[Clip, dict[View, Any]]]:
    """What is known of each clip, and the values of its features."""
    return {
        row["clip_id"]: (
            tables.clip_from_row(row),
            {view: tables.features_from_row(row, view).values for view in Modality},
        )
        for row in tables.read_rows(config.output)
    }


def test_a_mended_table(ray_session: None, tiny_bundle: str, small_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    drawn = [clip for clip in read_corpus(str(small_corpus)).clips if clip.transcript][:6]
    for i, clip in enumerate(drawn):
        shutil.copy(clip.video_uri, folder / f"{i}.mp4")
    rows: list[dict[str, Any]] = [
        {"video": f"{i}.mp4", "split": "train", "label": clip.label, "transcript": clip.transcript}
        for i, clip in enumerate(drawn)
    ]
    write_table(folder, [*rows, {**rows[3], "video": "later.mp4"}])
    config = PreprocessConfig(
        corpus=str(folder / "table.csv"), output=str(tmp_path / "features"), models=tiny_bundle, recipe="leya/demo"
    )
    preprocess(config)
    before = features(config)
    assert len(before) == 6
    assert [clip.clip_id for clip, _ in quarantined_clips(config.output)] == ["later.mp4"]

    # Other words, another video, another label, one that is gone, and a file that has come since.
    rows[0]["transcript"], rows[2]["label"] = "I want to and I do not", 1 - rows[2]["label"]
    shutil.copy(folder / "4.mp4", folder / "1.mp4")
    shutil.copy(folder / "4.mp4", folder / "later.mp4")
    write_table(folder, [*rows[:5], {**rows[3], "video": "later.mp4"}])
    summary = preprocess(config)
    after = features(config)
    assert set(after) == {*(f"{i}.mp4" for i in range(5)), "later.mp4"}
    assert quarantined_clips(config.output) == []
    assert (fact(summary, "features made now"), fact(summary, "texts made again")) == ("2", "1")
    assert fact(summary, "there from before") == "3"
    said = " ".join(summary.notes)
    assert "1 transcript and 2 videos" in said
    assert "labels (1 clip)" in said
    assert "No longer in the corpus: 1 clip" in said
    assert not same(after["0.mp4"][1][Modality.TEXT], before["0.mp4"][1][Modality.TEXT])
    assert same(after["1.mp4"][1][Modality.SCENE], before["4.mp4"][1][Modality.SCENE])
    for clip_id, views in {
        "0.mp4": set(Modality) - {Modality.TEXT},
        "2.mp4": set(Modality),
        "3.mp4": set(Modality),
    }.items():
        for view in views:
            assert same(after[clip_id][1][view], before[clip_id][1][view])
    assert after["2.mp4"][0] == replace(before["2.mp4"][0], labels=clip_labels(rows[2]["label"]))
    alone = replace(config, output=str(tmp_path / "alone"))
    preprocess(alone)
    for clip_id, (clip, values) in features(alone).items():
        assert clip == after[clip_id][0], "as if all had been made now"
        for view in Modality:  # a batch of others is rounded otherwise
            assert same(values[view], after[clip_id][1][view], within=1e-4)
    assert preprocess(config).notes == []


def same(one: Any, other: Any, *, within: float = 0.0) -> bool:
    """Whether two features are the same, absent ones included."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=within))


def fact(summary: Summary, what: str) -> str:
    return dict(summary.facts)[what]
