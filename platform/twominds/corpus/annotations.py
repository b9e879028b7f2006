"""BAH's annotations below the level of the video: A/H segments in time, a label per frame, and what was seen.

They are what a timeline of ambivalence/hesitancy is trained on (see `bah_frames`); the video's own label is elsewhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from upath import UPath

from twominds.corpus.bah import LAYOUTS, BahVersion
from twominds.corpus.labels import frame_labels
from twominds.corpus.problems import Problems, refuse, shown
from twominds.corpus.text_files import numbered_lines, read_text
from twominds.corpus.yaml_files import as_mapping, as_number, as_sequence, as_text, read_yaml
from twominds.errors import CorpusError
from twominds.records import Labels, Split

_CLOCK = re.compile(r"(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_FRAME_LABEL = "write `<clip>/frame-<n>.jpg` and 0 or 1"
_ONE_LABEL = "a frame has one label"
_FRAME = re.compile(r"frame-(\d{1,7})\.\w+$")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a clip in which A/H is present."""

    start_s: float
    end_s: float
    start_frame: int | None = None
    end_frame: int | None = None
    """The last frame in it. Both None where the corpus gives times alone."""
    certainty: int | None = None


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What an annotator said of one clip."""

    clip_id: str
    label: int | None
    """`global_ah`: 1 where A/H is present anywhere."""
    annotator_id: str
    transcript: str
    segments: tuple[Segment, ...]
    frame_labels: Labels | None
    """Of the frames in their order, 1 with A/H; one that is not listed is unknown. None where none is listed."""
    cues: Mapping[str, tuple[str, ...]]
    """What the annotator noticed, by kind: audio, body, facial, inconsistencies, language."""


def read_annotations(root_uri: str, *, version: BahVersion = "v2") -> dict[str, Annotation]:
    """Every clip's annotation, keyed by clip id.

    Version 2's file is 91 MB of YAML: about a minute.

    Raises:
        CorpusError: the file is missing or is not what the layout promises; names the file and the clip.
    """
    file = UPath(root_uri) / LAYOUTS[version].annotations
    return {
        clip_id: _annotation(clip_id, as_mapping(value, f"{file}, {clip_id}"), f"{file}, {clip_id}")
        for clip_id, value in as_mapping(read_yaml(file), str(file)).items()
    }


def read_frame_labels(root_uri: str, split: Split) -> dict[str, Labels]:
    """The labels of a split's frames from `split-frames/`, by clip id; a frame that is not listed is unknown.

    Raises:
        CorpusError: the file is missing, lines of it are not `<clip>/frame-<n>.jpg,<0|1>`, or two of them contradict
            each other; names file and lines.
    """
    file = UPath(root_uri) / "split-frames" / f"{split.value}.txt"
    problems = Problems(file, unit="line")
    labels: dict[str, dict[int, int]] = {}
    for number, line in numbered_lines(read_text(file)):
        path, _, label = line.rpartition(",")
        found = _frame_label(path, label)
        if found is None:
            problems.add(_FRAME_LABEL, row=number, found=shown(line))
            continue
        clip_id, frame, value = found
        if labels.setdefault(clip_id, {}).setdefault(frame, value) != value:
            problems.add(f"{_ONE_LABEL}; another line has another", row=number, found=shown(line))
    refuse([problems])
    return {clip_id: _of_frames(frames) for clip_id, frames in labels.items()}


def _annotation(clip_id: str, fields: Mapping[str, object], where: str) -> Annotation:
    times = as_sequence(fields.get("time_detailed_ah"), where)
    frames = as_sequence(fields.get("fr_detailed_ah"), where)
    certainties = _sequence_or_one(fields.get("certainty_ah"), where)
    if frames and len(frames) != len(times):
        raise CorpusError(f"{where}: {len(times)} segments in time but {len(frames)} in frames.")
    segments: list[Segment] = []
    for index, pair in enumerate(times):
        start, end = _pair(pair, where)
        first, last = _pair(frames[index], where) if frames else (None, None)
        segments.append(
            Segment(
                start_s=_seconds(start, where),
                end_s=_seconds(end, where),
                start_frame=None if first is None else int(as_number(first, where)),
                end_frame=None if last is None else int(as_number(last, where)),
                certainty=int(as_number(certainties[index], where)) if index < len(certainties) else None,
            )
        )
    labels: dict[int, int] = {}
    for item in as_sequence(fields.get("frame_annotation"), where):
        path, label = _pair(item, where)
        found = _frame_label(as_text(path), as_text(label))
        if found is None:
            raise CorpusError(f"{where}: {_FRAME_LABEL}; found {shown(item)}.")
        _, frame, value = found
        if labels.setdefault(frame, value) != value:
            raise CorpusError(f"{where}: {_ONE_LABEL}; frame {frame} has both.")
    cues = as_mapping(fields.get("all_cues") or {}, where)
    present = fields.get("global_ah")
    return Annotation(
        clip_id=clip_id,
        label=None if present is None else int(as_number(present, where)),
        annotator_id=as_text(fields.get("annotator_id")),
        transcript=as_text(fields.get("transcript")),
        segments=tuple(segments),
        frame_labels=_of_frames(labels) if labels else None,
        cues={kind: tuple(as_text(cue) for cue in _sequence_or_one(value, where)) for kind, value in cues.items()},
    )


def _pair(value: object, where: str) -> tuple[object, object]:
    items = as_sequence(value, where)
    if len(items) != 2:
        raise CorpusError(f"{where}: expected a pair, found {len(items)} values.")
    return items[0], items[1]


def _sequence_or_one(value: object, where: str) -> tuple[object, ...]:
    return (value,) if isinstance(value, str | int | float) else as_sequence(value, where)


def _seconds(value: object, where: str) -> float:
    if isinstance(value, int | float):  # YAML reads an unquoted 00:00:01.500 as a number in base 60
        return float(value)
    match = _CLOCK.fullmatch(as_text(value))
    if match is None:
        raise CorpusError(f"{where}: expected a time as HH:MM:SS.mmm, found {value!r}.")
    hours, minutes, seconds = match.groups()
    return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)


def _frame_label(path: str, label: str) -> tuple[str, int, int] | None:
    folder, _, name = path.strip().rpartition("/")
    match = _FRAME.fullmatch(name)
    if match is None or label.strip() not in {"0", "1"}:
        return None
    return folder, int(match.group(1)), int(label)


def _of_frames(frames: Mapping[int, int]) -> Labels:
    return frame_labels({frame: (label,) for frame, label in frames.items()})
