"""A folder of videos as a corpus: what in it is a video, by name, and what was passed over."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from upath import UPath

from twominds.corpus.places import is_folder, local_path
from twominds.corpus.problems import listed
from twominds.corpus.rows import READERS
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts", ".ogv"}
)
"""A file is taken for a video by its name alone: one that is none fails, with a reason, when it is decoded."""

_NOT_UTF8 = "Its name is not UTF-8, so it cannot be written down: rename the file."


def read_folder(folder: UPath) -> Corpus:
    """The videos of a folder, searched to its leaves; a clip's id is its path in the folder.

    Hidden files and folders are left alone; links to folders are followed. Notes say what else was passed over.

    Raises:
        CorpusError: there is no video in it; says what is.
    """
    files, closed = _files(folder)
    names = sorted(name for name in files if not any(part.startswith(".") for part in name.split("/")))
    videos = [name for name in names if _suffix(name) in VIDEO_SUFFIXES]
    others = [name for name in names if _suffix(name) not in VIDEO_SUFFIXES]
    tables = [f"`{name}`" for name in others if _suffix(name) in READERS and "/" not in name]
    counts = Counter(_suffix(name) or "without a suffix" for name in others)
    passed_over = listed(f"{count} x {suffix}" for suffix, count in counts.most_common()) if counts else ""
    if not videos:
        instead = f"; it has {passed_over}" if passed_over else ""
        give = f" Give the table itself ({listed(tables)})." if tables else ""
        raise CorpusError(
            f"No videos in {folder}: looked for files named {', '.join(sorted(VIDEO_SUFFIXES))}{instead}.{give}"
        )
    notes = [f"Files passed over, since their names are not those of videos: {passed_over}."] if counts else []
    if tables:
        notes.append(f"A folder has no labels or words: to use those of {listed(tables)}, give the table itself.")
    if closed:
        notes.append(f"Folders passed over, since they cannot be opened: {closed}.")
    return Corpus(
        clips=tuple(Clip(clip_id=_readable(name), video_uri=_readable(files[name])) for name in videos),
        failures=tuple(
            Failure(clip_id=_readable(name), stage="corpus", reason=_NOT_UTF8)
            for name in videos
            if _readable(files[name]) != files[name]
        ),
        notes=tuple(notes),
    )


def _files(folder: UPath) -> tuple[dict[str, str], int]:
    """The URIs of all files below a folder, by their path in it, and how many folders cannot be opened."""
    root = local_path(str(folder))
    if root is None:
        prefix = folder.path.rstrip("/") + "/"
        return {file.path.removeprefix(prefix): str(file) for file in folder.rglob("*") if not file.is_dir()}, 0
    closed: list[OSError] = []
    return {os.path.relpath(file, root): file for file in _local_files(root, closed)}, len(closed)


def _local_files(root: str, closed: list[OSError]) -> Iterator[str]:
    """Files below a folder; each folder once, by its own path rather than by a link to it."""
    seen: set[str] = set()
    folders, links = [root], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            closed.append(error)
            continue
        for entry in found:
            if not is_folder(entry.path):
                yield entry.path
            elif not entry.name.startswith("."):
                (links if entry.is_symlink() else folders).append(entry.path)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _readable(name: str) -> str:
    r"""A name as text that can be written down: bytes that are no UTF-8 become `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
