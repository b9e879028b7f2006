"""Where a drawn corpus's labels and words go, by layout."""

import csv
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from twominds.records import Split
from twominds.synthetic.corpus.bah_files import write_abaw8, write_bah
from twominds.synthetic.corpus.clip import DrawnClip
from twominds.synthetic.corpus.config import Layout, PlantedTask, SyntheticCorpusConfig
from twominds.synthetic.corpus.plan import CorpusPlan, annotated, person_id
from twominds.synthetic.corpus.timeline import stretches
from twominds.tasks import EXPRESSION, MIMICRY

CLIPS_TABLE, SEGMENTS_TABLE = "clips.csv", "segments.csv"
_EXPR_SETS = {Split.TRAIN: "Train_Set", Split.VALIDATION: "Validation_Set", Split.TEST: "Test_Set"}
_EMI_FILES = {Split.TRAIN: "train_split.csv", Split.VALIDATION: "valid_split.csv", Split.TEST: "test_split.csv"}
_BAH_ENTRIES = (
    "Videos",
    "cropped-aligned-faces",
    "transcription",
    "split",
    "split-frames",
    "video_annotation_transcript.yaml",
    "meta_data.yml",
    "bah-video.csv",
)
ENTRIES: dict[Layout, tuple[str, ...]] = {
    "bah": _BAH_ENTRIES,
    "bah-v1": _BAH_ENTRIES,
    "abaw8": ("videos", "cropped-aligned-faces", "transcription", "default-split", "annotation.yml"),
    "expr": ("videos", "cropped_aligned", "EXPR_Recognition_Challenge"),
    "emi": ("raw", "text", "cropped-aligned-faces", *_EMI_FILES.values()),
    "table": ("clips", "cropped-aligned-faces", CLIPS_TABLE, SEGMENTS_TABLE),
}
"""All that is ever written in the corpus's folder, but the truth."""


def write_files(config: SyntheticCorpusConfig, plan: CorpusPlan, root: Path, drawn: list[DrawnClip]) -> None:
    """Writes every file of the layout but the videos and face crops.

    The labels of the test split, which the organisers of a challenge keep to themselves, are there, too.
    """
    match config.layout:
        case "bah" | "bah-v1":
            write_bah(root, plan, drawn)
        case "abaw8":
            write_abaw8(root, drawn)
        case "expr":
            _write_expressions(root, drawn)
        case "emi":
            _write_intensities(root, drawn)
        case "table":
            _write_tables(root, config.planted, drawn)


def _write_expressions(root: Path, drawn: Iterable[DrawnClip]) -> None:
    for clip in drawn:
        folder = root / "EXPR_Recognition_Challenge" / _EXPR_SETS[clip.plan.split]
        folder.mkdir(parents=True, exist_ok=True)
        stem = Path(clip.plan.clip_id).stem
        for name, classes in zip(annotated(stem, clip.plan), clip.expressions, strict=True):
            lines = [",".join(EXPRESSION.names), *map(str, classes)]
            (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_intensities(root: Path, drawn: list[DrawnClip]) -> None:
    (root / "text").mkdir()
    for clip in drawn:
        (root / "text" / f"{Path(clip.plan.clip_id).stem}.txt").write_text(clip.transcript, encoding="utf-8")
    for split, name in _EMI_FILES.items():
        rows = [[Path(clip.plan.clip_id).stem, *clip.intensities] for clip in drawn if clip.plan.split is split]
        _write_csv(root / name, ["Filename", *MIMICRY.names], rows)


def _write_tables(root: Path, task: PlantedTask, drawn: list[DrawnClip]) -> None:
    labels = {"ah-video": ("label",), "mimicry": MIMICRY.names}.get(task, ())
    rows: list[Sequence[object]] = []
    for clip in drawn:
        own = {"ah-video": (clip.plan.label,), "mimicry": clip.intensities}.get(task, ())
        plan = clip.plan
        rows.append([plan.clip_id, plan.split.value, person_id(plan.participant), clip.transcript, *own])
    _write_csv(root / CLIPS_TABLE, ["video", "split", "participant", "transcript", *labels], rows)
    if task in ("ah-frame", "expression"):
        segments = [(clip.plan.clip_id, *segment) for clip in drawn for segment in _segments(clip, task)]
        _write_csv(root / SEGMENTS_TABLE, ["video", "start_s", "end_s", "label"], segments)


def _segments(clip: DrawnClip, task: PlantedTask) -> list[tuple[float, float, str]]:
    """Of A/H both what is and what is not; of expressions runs of frames, without those that nobody annotated."""
    times = [*clip.frame_times_s, 2 * clip.frame_times_s[-1] - clip.frame_times_s[-2]]
    if task == "ah-frame":
        return [(start, end, "yes" if ah else "no") for start, end, ah in stretches(clip.segments, round(times[-1], 4))]
    (classes,) = clip.expressions
    edges = [0, *(i for i in range(1, len(classes)) if classes[i] != classes[i - 1]), len(classes)]
    return [
        (round(times[first], 4), round(times[end], 4), EXPRESSION.names[classes[first]])
        for first, end in pairwise(edges)
        if classes[first] >= 0
    ]


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        table.writerows(rows)
