"""A table of labels in time beside a corpus: of segments, or of frames by number or by time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from upath import UPath

from twominds.corpus.cells import frame_of, is_empty, seconds_of
from twominds.corpus.clip_names import ClipNames
from twominds.corpus.columns import LABEL_COLUMNS, Meaning, meaning_of
from twominds.corpus.labels import frame_labels
from twominds.corpus.problems import Problems, refuse
from twominds.corpus.rows import read_table
from twominds.corpus.table_rows import TableRow, add_lacking, intensity_names
from twominds.errors import CorpusError
from twominds.records import Corpus, Labels
from twominds.tasks import Task

_Kind = Literal["segments", "frames", "times"]
_KINDS: Mapping[_Kind, tuple[str, ...]] = {"segments": ("start_s", "end_s"), "frames": ("frame",), "times": ("time_s",)}
_CHOICE = "name columns `start_s` and `end_s` (of segments), or `frame` or `time_s` (of frames)"


@dataclass(frozen=True, kw_only=True)
class _TimedLabel:
    row: int
    start: float
    """Seconds, or the frame's number."""
    end: float
    """Where a segment ends, in seconds; of a moment or a frame it is `start`."""
    values: tuple[float, ...] | None
    """None: nobody annotated it."""


def with_labels_of(corpus: Corpus, corpus_uri: str, labels_uri: str, task: Task) -> Corpus:
    """A corpus with the labels of a table in place of its own.

    The table (`.csv`, `.tsv`, `.jsonl`, `.parquet`) names clips in a column `video` (as the corpus's own table does,
    or relative to this one) or `clip_id`. Its rows are segments (`start_s`, `end_s`), or else frames, by number
    (`frame`, from 0) or by time (`time_s`). What they say is in `label`, or for intensities in one column for each.
    What no row covers, and a row without a label, is unknown.

    Raises:
        CorpusError: the task has no points in time, or rows or columns are wrong; names all of them, and what to write
            instead.
    """
    file = UPath(labels_uri)
    if not task.per_frame:
        raise CorpusError(
            f"Labels in time ({file}) are for tasks with labels of frames, and `{task.name}` has one for each clip: "
            "write it in the table of clips."
        )
    problems = Problems(file)
    table = read_table(file, problems)
    kind, meaning = _read_header(table.columns, task, problems)
    names = ClipNames(corpus.clips, UPath(corpus_uri), file)
    found: dict[str, list[_TimedLabel]] = {}
    for number, cells in table.rows:
        if all(is_empty(cell) for cell in cells):
            continue
        row = TableRow(cells=cells, number=number, meaning=meaning, problems=problems)
        clip_id, label = names.clip_of(row), _read_label(row, kind, task)
        if clip_id is not None and label is not None:
            found.setdefault(clip_id, []).append(label)
    labels = {clip_id: _checked(rows, kind, task, problems) for clip_id, rows in found.items()}
    refuse([problems])
    if not labels:
        raise CorpusError(f"{file} has no rows.")
    notes = [*corpus.notes, *table.notes]
    if lacking := len(corpus.clips) - len(labels):
        notes.append(f"Clips of which {file.name} says nothing: {lacking}.")
    if kind == "frames" and not any(label.known[:1].any() for label in labels.values()):
        notes.append(f"{file.name} has no label for any frame 0: frames are counted from 0.")
    clips = tuple(replace(clip, labels=labels.get(clip.clip_id)) for clip in corpus.clips)
    return replace(corpus, clips=clips, notes=tuple(notes))


def _read_header(columns: Sequence[str], task: Task, problems: Problems) -> tuple[_Kind, Meaning]:
    outputs = intensity_names(task)
    label = outputs or ("label",)
    there = meaning_of(columns, Problems(problems.file), (*LABEL_COLUMNS, *outputs), needs_video=False).ours
    kind: _Kind | None = next((kind for kind, names in _KINDS.items() if all(name in there for name in names)), None)
    clip = "clip_id" if "clip_id" in there else "video"
    of_kind = [name for names in _KINDS.values() for name in names] if kind is None else _KINDS[kind]
    meaning = meaning_of(columns, problems, (clip, *of_kind, *label), needs_video=clip == "video")
    if not any(name in there for name in label):
        problems.add("there is no column for what is said: name `label`, or one column for each intensity of the task")
    add_lacking(meaning, task, problems)
    if kind is None:
        problems.add(_CHOICE)
        raise CorpusError(problems.text())
    refuse([problems])
    return kind, meaning


def _read_label(row: TableRow, kind: _Kind, task: Task) -> _TimedLabel | None:
    """A row's label; None where its times are missing or wrong, which is then a problem."""
    times: list[float | None] = []
    for column in _KINDS[kind]:
        if is_empty(row.cell(column)):
            row.problems.add("write a number", row=row.number, column=column, found="nothing")
        times.append(row.read(column, frame_of if kind == "frames" else seconds_of))
    values, start, end = row.labels(task), times[0], times[-1]
    if start is None or end is None:
        return None
    if kind == "segments" and end <= start:
        row.problems.add(
            "a segment ends after its start", row=row.number, column="end_s", found=f"{start:g} to {end:g}"
        )
        return None
    return _TimedLabel(row=row.number, start=start, end=end, values=values)


def _checked(rows: list[_TimedLabel], kind: _Kind, task: Task, problems: Problems) -> Labels:
    """The labels of a clip; two of the same time are a problem."""
    rows = sorted(rows, key=lambda label: (label.start, label.row))
    before: _TimedLabel | None = None
    for label in rows:
        if before is not None and kind == "segments" and label.start < before.end:
            clash = f"row {before.row} ({before.start:g} to {before.end:g})"
            problems.add("segments of a clip may not overlap", row=label.row, found=f"an overlap with {clash}")
        if before is not None and kind != "segments" and label.start == before.start:
            what = "frame" if kind == "frames" else "time"
            problems.add(
                f"a {what} of a clip may be there only once", row=label.row, found=f"the one of row {before.row} again"
            )
        before = label if before is None or label.end >= before.end else before
    if kind == "frames":
        known = {int(label.start): label.values for label in rows if label.values is not None}
        return frame_labels(known)
    nothing = (0.0,) * task.output.num_values
    return Labels(
        values=np.array([label.values or nothing for label in rows], np.float32),
        known=np.array([label.values is not None for label in rows], np.bool_),
        times_s=np.array([label.start for label in rows], np.float64),
        ends_s=np.array([label.end for label in rows], np.float64) if kind == "segments" else None,
    )
