"""Every layout is read back by the readers of the real corpora, and says what was planted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from twominds.corpus.labels import labels_at
from twominds.corpus.manifest import read_corpus
from twominds.errors import ConfigError
from twominds.records import Corpus, Split
from twominds.synthetic.corpus.config import LAYOUT_TASKS, Layout, NuisanceRates, PlantedTask, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import TRUTH_FILE, make_corpus
from twominds.synthetic.corpus.layouts import ENTRIES
from twominds.tasks import AH_FRAME, EXPRESSION, MIMICRY, TASKS

RATES = replace(NuisanceRates.none(), two_faces=1 / 12, face_leaves=1 / 12, variable_frame_rate=1 / 12, no_face=1 / 12)
SMALL = SyntheticCorpusConfig(clips=12, clip_s=8.0, width=96, height=72, fps=6.0, seed=5, nuisances=RATES)
BOTH: list[tuple[Layout, PlantedTask]] = [(layout, task) for layout, tasks in LAYOUT_TASKS.items() for task in tasks]


def draw(root: Path, layout: Layout, task: PlantedTask, **settings: Any) -> list[dict[str, Any]]:
    make_corpus(replace(SMALL, layout=layout, task=task, **settings), root, workers=1)
    return cast("list[dict[str, Any]]", json.loads((root / TRUTH_FILE).read_text())["clips"])


def read(root: Path, layout: Layout, task: PlantedTask) -> Corpus:
    table, segments = root / "clips.csv", root / "segments.csv"
    uri = str(table if layout == "table" else root)
    return read_corpus(uri, task=TASKS[task], labels=str(segments) if segments.exists() else "")


@pytest.mark.parametrize(("layout", "task"), [("bah-v1", "ah-frame"), ("abaw8", "ah-video"), *BOTH[6:]])
def test_layouts_are_whole(tmp_path: Path, layout: Layout, task: PlantedTask) -> None:
    truth = draw(tmp_path, layout, task, nuisances=NuisanceRates.none(), clip_s=8.0, width=64, height=64, fps=2.0)
    corpus = read(tmp_path, layout, task)
    assert {path.name for path in tmp_path.iterdir()} <= {*ENTRIES[layout], TRUTH_FILE}
    assert corpus.failures == ()
    assert corpus.notes == () or layout == "table"
    assert len(corpus.clips) == 12
    assert {clip.split for clip in corpus.clips} == {Split.TRAIN, Split.VALIDATION, Split.TEST}
    assert {str(tmp_path / clip["clip_id"]) for clip in truth} == {clip.video_uri for clip in corpus.clips}
    assert sum(clip.labels is not None for clip in corpus.clips) >= 11
    if layout != "expr":
        assert all(clip.transcript for clip in corpus.clips)


@pytest.mark.parametrize("layout", ["bah", "abaw8", "table"])
def test_segments_of_ambivalence_in_time(tmp_path: Path, layout: Layout) -> None:
    truth = {str(tmp_path / clip["clip_id"]): clip for clip in draw(tmp_path, layout, "ah-frame")}
    for clip in read(tmp_path, layout, "ah-frame").clips:
        assert clip.labels is not None
        planted = truth[clip.video_uri]
        segments = planted["acted"]["segments_s"]
        assert bool(segments) == bool(planted["label"])
        assert all(end - start >= 1.5 for start, end in segments)
        if "variable_frame_rate" in planted["nuisances"]:
            continue
        points = np.arange(40) / 6.0
        inside = np.array([any(start <= t <= end for start, end in segments) for t in points])
        assert labels_at(clip.labels, points, 0.0).classes.tolist() == inside.astype(int).tolist()


def test_expressions_of_one_and_of_two_people(tmp_path: Path) -> None:
    truth = draw(tmp_path, "expr", "expression", face_crops=True)
    corpus = read(tmp_path, "expr", "expression")
    clips = {clip.clip_id: clip for clip in corpus.clips}
    seen = set[int]()
    for planted in truth:
        stem = Path(planted["clip_id"]).stem
        names = [f"{stem}_left", f"{stem}_right"] if "two_faces" in planted["nuisances"] else [stem]
        assert len(planted["expressions"]) == len(names)
        for name, classes in zip(names, planted["expressions"], strict=True):
            labels = clips[name].labels
            assert labels is not None
            assert labels.classes.tolist() == classes
            seen |= set(classes)
            crops = Path(clips[name].face_crops_uri or "")
            if "no_face" in planted["nuisances"]:
                assert set(classes) == {-1}
            else:
                assert crops.name == name
                assert (crops / "00001.jpg").is_file()
    assert seen == {-1, *range(8)}
    assert len(clips) == 13
    assert corpus.failures == ()


def test_without_crops_two_people_are_told_apart_by_nobody(tmp_path: Path) -> None:
    draw(tmp_path, "expr", "expression", width=64, height=64, fps=2.0)
    assert [failure.clip_id[-5:] for failure in read(tmp_path, "expr", "expression").failures] == ["_left", "right"]


def test_intensities(tmp_path: Path) -> None:
    truth = draw(tmp_path, "emi", "mimicry", width=64, height=64, fps=2.0)
    clips = read(tmp_path, "emi", "mimicry").clips
    assert [clip.clip_id for clip in clips] == [f"{number:05d}" for number in range(1, 13)]
    for clip, planted in zip(clips, truth, strict=True):
        assert clip.labels is not None
        assert planted["intensities"] == planted["acted"]["intensities"]
        np.testing.assert_allclose(clip.labels.values[0], planted["intensities"], atol=1e-6)


@pytest.mark.parametrize(("task", "field"), [("expression", "expressions"), ("mimicry", "intensities")])
def test_preset_none_acts_something_else(tmp_path: Path, task: PlantedTask, field: str) -> None:
    settings = {"width": 64, "height": 64, "fps": 2.0, "clip_s": 8.0, "clean": True}
    for planted in draw(tmp_path, "table", task, preset="none", **settings):
        labels = planted[field][0] if task == "expression" else planted[field]
        assert labels != planted["acted"][field]


def test_segments_of_preset_none_are_others(tmp_path: Path) -> None:
    truth = draw(tmp_path, "table", "ah-frame", preset="none", width=64, height=64, fps=2.0, clean=True)
    with_both = [clip for clip in truth if clip["label"] and clip["acted"]["segments_s"]]
    assert all(clip["moments_s"] != clip["acted"]["segments_s"] for clip in with_both)
    assert {(clip["label"], bool(clip["acted"]["segments_s"])) for clip in truth} >= {(0, True), (1, False)}


def test_what_is_replaced_is_that_of_the_layout_before(tmp_path: Path) -> None:
    draw(tmp_path, "expr", "expression", width=64, height=64, fps=2.0)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.mp4").write_bytes(b"mine")
    config = replace(SMALL, layout="table", task="mimicry", width=64, height=64, fps=2.0)
    make_corpus(config, tmp_path, workers=1, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "clips.csv", "raw", TRUTH_FILE}
    assert make_corpus(config, tmp_path, workers=1).already_there
    assert make_corpus(config, tmp_path, workers=1).positives == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "hume"}, "layout must be one of bah, bah-v1, abaw8, expr, emi, table"),
        ({"layout": "emi", "task": "expression"}, "layout emi has labels for mimicry, not for expression"),
        ({"layout": "abaw8", "task": "mimicry"}, "layout abaw8 has labels for ah-video and ah-frame, not for mimicry"),
        ({"task": "ah-frame", "clip_s": 4.0}, "clip_s must be between 8 and 600 seconds for task ah-frame"),
        ({"task": "ah-frame", "clip_s": 9.0, "preset": "conflict"}, "preset conflict is of task ah-video"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticCorpusConfig(**settings)


def test_what_was_always_drawn_is_written_down_as_always() -> None:
    assert {"layout", "task"} & set(SyntheticCorpusConfig().written()) == set()
    assert SyntheticCorpusConfig(task="ah-video").written() == SyntheticCorpusConfig().written()
    assert SyntheticCorpusConfig(layout="abaw8").written()["layout"] == "abaw8"
    assert [SyntheticCorpusConfig(layout=layout, clip_s=9.0).planted for layout in ("bah", "expr", "emi", "table")] == [
        "ah-video",
        "expression",
        "mimicry",
        "ah-video",
    ]
    shares = SyntheticCorpusConfig(layout="bah-v1").split_shares
    assert [round(1118 * share) for share in (shares.validation, shares.test)] == [110, 392]


def test_tasks_are_those_of_the_records() -> None:
    assert {task for _, task in BOTH} == set(TASKS)
    assert (AH_FRAME.per_frame, EXPRESSION.num_outputs, MIMICRY.num_outputs) == (True, 8, 6)
