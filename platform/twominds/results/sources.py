"""What clips are made of now: whether a file or a transcript has changed, told without reading the file."""

import errno
import hashlib
from collections.abc import Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from upath import UPath

from twominds.artifacts import fingerprint
from twominds.records import Clip, Source
from twominds.storage import errors_of_storage

LISTINGS_AT_ONCE = 16
"""How many folders of an object store are listed at the same time."""
_TELLS_CHANGE = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified")
"""What filesystems call a file's digest or its time of change, the digest first."""

_Info = Mapping[str, Any]


def with_sources(
    clips: Sequence[Clip], *, face_crops: bool = False, vectors: Collection[str] | None = None
) -> list[Clip]:
    """The clips with their sources as they are now: one look at each local file, one listing of each remote folder.

    Args:
        clips: The clips of the corpus.
        face_crops: Whether the corpus's own face crops are used, too; they then belong to the video.
        vectors: Names of the given vectors that are used, which then belong to the video, too; None: all of them.

    Raises:
        OSError: an object store is away.
    """
    videos = [_file(clip.video_uri) for clip in clips]
    with errors_of_storage():
        _list_remote([video for video in videos if video])
        found = [_of_file(video) if video else "" for video in videos]
        if face_crops:
            found = [video and fingerprint(video, _of_folder(clip)) for video, clip in zip(found, clips, strict=True)]
    found = [video and _with_vectors(video, clip, vectors) for video, clip in zip(found, clips, strict=True)]
    return [
        replace(clip, source=Source(video=video, words=_of_words(clip)))
        for clip, video in zip(clips, found, strict=True)
    ]


def _with_vectors(video: str, clip: Clip, used: Collection[str] | None) -> str:
    """A video's state with that of its vectors; the video's own where it has none that are used."""
    digests = {
        name: hashlib.sha256(vector.tobytes()).hexdigest()
        for name, vector in clip.vectors.items()
        if used is None or name in used
    }
    return fingerprint(video, digests) if digests else video


def _of_words(clip: Clip) -> str:
    if clip.transcript is None:
        return ""
    times = [] if clip.words is None else [[[word.text, word.start_s, word.end_s] for word in clip.words]]
    return fingerprint(clip.transcript, *times)


def _list_remote(files: Sequence[UPath]) -> None:
    """Lists each remote folder once, after which its files are known without a request for each."""
    folders = {file.parent.path: file.fs for file in files if file.protocol not in ("", "file")}
    for filesystem in {id(filesystem): filesystem for filesystem in folders.values()}.values():
        filesystem.invalidate_cache()

    def list_folder(folder: str) -> None:
        with _if_there():
            folders[folder].ls(folder, detail=True)

    with ThreadPoolExecutor(LISTINGS_AT_ONCE) as pool:
        list(pool.map(list_folder, folders))


def _file(uri: str) -> UPath | None:
    with _if_there():
        file = UPath(uri)
        _ = file.fs  # knows the kind of place, and has what it needs
        return file
    return None


def _of_file(file: UPath) -> str:
    with _if_there():
        return _state(cast("_Info", file.fs.info(file.path)))
    return ""


def _of_folder(clip: Clip) -> list[list[str]]:
    """The clip's own face crops."""
    with _if_there():
        if clip.face_crops_uri:
            folder = UPath(clip.face_crops_uri)
            files = cast("list[_Info]", folder.fs.ls(folder.path, detail=True))
            return sorted([str(file["name"]), _state(file)] for file in files)
    return []


def _state(info: _Info) -> str:
    return f"{info['size']}-{next((info[name] for name in _TELLS_CHANGE if info.get(name)), '')}"


@contextmanager
def _if_there() -> Generator[None]:
    """A file that is not there, or not to be read, or at an unknown place, has no state: whoever reads it says why."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError, ImportError):
        return
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
