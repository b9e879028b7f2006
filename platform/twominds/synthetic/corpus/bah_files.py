"""Writes the files of BAH's layouts beside the videos: splits, labels of frames, annotations, transcripts, people."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from twominds.records import Split
from twominds.synthetic.corpus.clip import DrawnClip
from twominds.synthetic.corpus.plan import CorpusPlan, person_id
from twominds.synthetic.corpus.voice import SpokenClause

_WINDOW_S = 30.0  # the recogniser's, with which its time stamps restart
_OPEN_END_SHARE = 10  # one transcript in so many ends with an open time stamp
_SPLITS = (Split.TRAIN, Split.VALIDATION, Split.TEST)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _TupleDumper(_Dumper):  # a safe dumper that writes tuples as the corpus does
    pass


def _represent_tuple(dumper: Any, value: tuple[object, ...]) -> Any:
    return dumper.represent_sequence("tag:yaml.org,2002:python/tuple", list(value))


_TupleDumper.add_representer(tuple, _represent_tuple)


def write_bah(root: Path, plan: CorpusPlan, drawn: list[DrawnClip]) -> None:
    """Writes what versions 1 and 2 have."""
    people = {person.participant_id: person.about for person in plan.participants}
    _write_yaml(root / "meta_data.yml", people)
    _write_splits(root / "split", drawn)
    _write_frames(root / "split-frames", drawn)
    _write_table(root / "bah-video.csv", drawn)
    _write_annotations(root, "video_annotation_transcript.yaml", drawn)


def write_abaw8(root: Path, drawn: list[DrawnClip]) -> None:
    """Writes what ABAW-8's variant has: keys are below `videos/`, and face crops and transcripts spell `Visite_1`."""
    _write_splits(root / "default-split", drawn)
    _write_annotations(root, "annotation.yml", drawn)


def _key(clip: DrawnClip) -> str:
    return clip.plan.clip_id.removeprefix("videos/")


def _write_yaml(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(value, stream, Dumper=cast(Any, _TupleDumper), allow_unicode=True, sort_keys=True, width=4096)


def _write_splits(folder: Path, drawn: list[DrawnClip]) -> None:
    folder.mkdir()
    for split in _SPLITS:
        rows = [f"{_key(clip)},{clip.plan.label},{clip.transcript}\n" for clip in drawn if clip.plan.split is split]
        (folder / f"{split.value}.txt").write_text("".join(rows), encoding="utf-8")


def _write_frames(folder: Path, drawn: list[DrawnClip]) -> None:
    folder.mkdir()
    for split in _SPLITS:
        frames = [
            f"{_key(clip)}/frame-{number}.jpg,{label}\n"
            for clip in drawn
            if clip.plan.split is split
            for number, label in enumerate(clip.frame_labels)
        ]
        (folder / f"{split.value}.txt").write_text("".join(frames), encoding="utf-8")


def _write_table(file: Path, drawn: list[DrawnClip]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["video", "participant", "question", "split", "global_ah", "frames"])
        for clip in drawn:
            plan = clip.plan
            about = [person_id(plan.participant), plan.question, plan.split.value, plan.label]
            table.writerow([plan.clip_id, *about, len(clip.frame_times_s)])


def _write_annotations(root: Path, name: str, drawn: list[DrawnClip]) -> None:
    annotations: dict[str, object] = {}
    for clip in drawn:
        clip_id, labels = _key(clip), clip.frame_labels
        pairs = [_frame_range(clip.frame_times_s, segment) for segment in clip.segments]
        annotations[clip_id] = {
            "global_ah": clip.plan.label,
            "annotator_id": 1 + clip.plan.participant % 3,
            "transcript": clip.transcript,
            "certainty_ah": [3 for _ in clip.segments],
            "time_detailed_ah": [[_clock(start), _clock(end)] for start, end in clip.segments],
            "fr_detailed_ah": pairs,
            "frame_annotation": [[f"{clip_id}/frame-{number}.jpg", label] for number, label in enumerate(labels)],
            "all_cues": clip.cues,
        }
        stem = clip_id.rsplit("/", 1)[-1].removesuffix(".mp4")
        chunks = recognised_chunks(clip.clauses, open_end=clip.plan.index % _OPEN_END_SHARE == 0)
        spelled = clip_id.replace("/Visite 1/", "/Visite_1/")
        _write_yaml(root / "transcription" / spelled / f"{stem}.yml", {"chunks": chunks, "text": clip.transcript})
    _write_yaml(root / name, annotations)


def _frame_range(times_s: tuple[float, ...], segment: tuple[float, float]) -> list[int]:
    """The first and the last frame shown in a segment."""
    inside = [number for number, time_s in enumerate(times_s) if segment[0] <= time_s <= segment[1]]
    return [inside[0], inside[-1]] if inside else []


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60.0)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:06.3f}"


def recognised_chunks(clauses: Sequence[SpokenClause], *, open_end: bool = False) -> list[dict[str, object]]:
    """The recogniser's output: one chunk per clause, with time stamps that restart about every 30 s.

    Args:
        clauses: What is said, in order.
        open_end: The last end is not known.
    """
    chunks: list[dict[str, object]] = []
    offset_s = end_s = 0.0
    for number, clause in enumerate(clauses, start=1):
        if clause.end_s - offset_s > _WINDOW_S:
            offset_s = end_s
        start_s, end_s = round(clause.start_s, 2), round(clause.end_s, 2)
        end = None if open_end and number == len(clauses) else round(end_s - offset_s, 2)
        stamp = (round(start_s - offset_s, 2), end)
        chunks.append({"language": "english", "text": f" {clause.text},", "timestamp": stamp})
    return chunks
