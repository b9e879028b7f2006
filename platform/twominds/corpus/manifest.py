"""Reads any videos as clips: a folder, a table (CSV, JSONL, Parquet), one file; and finds out which it was given."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from upath import UPath

from twominds.corpus.bah import Purpose, find_bah, read_bah
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Split

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts", ".ogv"}
)
"""A file is taken for a video by its name alone: one that is none fails, with a reason, when it is decoded."""

_SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "private": Split.PRIVATE,
}
_COLUMNS = ("clip_id", "video", "split", "label", "transcript", "participant", "question")


def read_corpus(uri: str, *, purpose: Purpose = "research") -> Corpus:
    """The corpus at `uri`: a BAH tree (any version), a folder of videos, a table of videos, or one video.

    Args:
        uri: Local path or URI such as `s3://bucket/prefix`.
        purpose: What BAH's clips are for (see `bah.read_bah`).

    Raises:
        CorpusError: nothing is there, or it is none of these; names the file and the row. Or a purpose was given that
            only BAH's own metadata can be asked about.
    """
    tree = find_bah(uri)
    if tree is not None:
        root, version = tree
        return read_bah(str(root), version=version, purpose=purpose)
    if purpose != "research":
        raise CorpusError(f"{uri} is no BAH tree: nothing there says who consented to a {purpose}.")
    return read_manifest(uri)


def read_manifest(uri: str) -> Corpus:
    """The corpus of a folder of videos, or of a table that names videos.

    A folder is searched to its leaves, for the names in `VIDEO_SUFFIXES`; a clip's id is its path in the folder.
    A table (`.csv`, `.jsonl`, `.parquet`) has a column `video` (path relative to the table, or URI) and may have
    `clip_id` (default: the video as written), `split`, `label` (0, 1, ...), `transcript`, `participant` and
    `question`; other columns become the clip's attributes. Empty cells count as absent, but a transcript that is ""
    in JSONL or Parquet says that nobody speaks.

    Raises:
        CorpusError: nothing is there, or a row is wrong; names the file and the row.
    """
    path = UPath(uri)
    if path.is_dir():
        return Corpus(clips=_folder(path))
    if not path.exists():
        raise CorpusError(f"There is nothing at {uri}: give a folder of videos, a table of videos, or a BAH tree.")
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Corpus(clips=(Clip(clip_id=path.name, video_uri=str(path)),))
    if suffix not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise CorpusError(f"{uri} is neither a video nor a table that can be read ({known}).")
    clips: dict[str, tuple[int, Clip]] = {}
    for number, row in _READERS[suffix](path):
        clip = _row_clip(path, number, row)
        if clip.clip_id in clips:
            raise CorpusError(
                f"{path}, row {number}: clip {clip.clip_id!r} is already in row {clips[clip.clip_id][0]}."
            )
        clips[clip.clip_id] = number, clip
    if not clips:
        raise CorpusError(f"{path} has no rows.")
    return Corpus(clips=tuple(clip for _, clip in clips.values()))


def _folder(folder: UPath) -> tuple[Clip, ...]:
    prefix = folder.path.rstrip("/") + "/"
    found = sorted(
        (file.path.removeprefix(prefix), str(file))
        for file in folder.rglob("*")
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )
    if not found:
        raise CorpusError(f"No videos in {folder}: looked for files named {', '.join(sorted(VIDEO_SUFFIXES))}.")
    return tuple(Clip(clip_id=name, video_uri=uri) for name, uri in found)


_Rows = Iterator[tuple[int, Mapping[str, object]]]


def _csv_rows(path: UPath) -> _Rows:
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
    try:
        for number, row in enumerate(reader, start=2):
            if None in row:
                raise CorpusError(
                    f"{path}, row {number}: more cells than the header has columns (quote cells with commas)."
                )
            yield number, {key: value or None for key, value in row.items()}
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}.") from error


def _jsonl_rows(path: UPath) -> _Rows:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            try:
                row: object = json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path}, row {number}: {error}.") from error
            if not isinstance(row, dict):
                raise CorpusError(f"{path}, row {number}: expected a JSON object.")
            yield number, cast(dict[str, object], row)


def _parquet_rows(path: UPath) -> _Rows:
    import pyarrow.parquet

    parquet: Any = pyarrow.parquet
    try:
        with path.open("rb") as file:
            rows: list[dict[str, object]] = parquet.read_table(file).to_pylist()
    except ValueError as error:  # Arrow's errors about a file's contents
        raise CorpusError(f"{path} is no Parquet table: {error}.") from error
    yield from enumerate(rows, start=1)


_READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}


def _row_clip(table: UPath, number: int, row: Mapping[str, object]) -> Clip:
    where = f"{table}, row {number}"
    if "video" not in row:
        raise CorpusError(f"{where}: no column `video`; found {', '.join(row) or 'none'}.")
    video = _text(row, "video")
    if not video:
        raise CorpusError(f"{where}: the video is empty.")
    split = _text(row, "split")
    if split is not None and split.lower() not in _SPLITS:
        raise CorpusError(f"{where}: the split must be one of {', '.join(_SPLITS)}, found {split!r}.")
    transcript = row.get("transcript")
    return Clip(
        clip_id=_text(row, "clip_id") or video,
        video_uri=_resolve(table, video),
        split=None if split is None else _SPLITS[split.lower()],
        label=_whole(row, "label", where),
        transcript=None if transcript is None else str(transcript).strip(),
        participant_id=_text(row, "participant"),
        question=_whole(row, "question", where),
        attributes={
            key: str(value) for key, value in row.items() if key not in _COLUMNS and value is not None and value != ""
        },
    )


def _resolve(table: UPath, video: str) -> str:
    if "://" in video or PurePosixPath(video).is_absolute():
        return video
    return str(table.parent / video)


def _text(row: Mapping[str, object], column: str) -> str | None:
    value = row.get(column)
    return None if value is None or not str(value).strip() else str(value).strip()


def _whole(row: Mapping[str, object], column: str, where: str) -> int | None:
    text = _text(row, column)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number < 0 or not number.is_integer():
        raise CorpusError(f"{where}: the {column} must be a whole number from 0, found {text!r}.")
    return int(number)
