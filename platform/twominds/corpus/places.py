"""Where a clip's file is: paths as tables write them, and what can be said of a file without opening it."""

import os.path
import posixpath
import re
import stat
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from upath import UPath

_WINDOWS = re.compile(r"^(file:/+)?[A-Za-z]:[\\/]|\\")
_FILE = "file://"


def resolve(table: UPath, video: str) -> str:
    """The path or URI of a video that a table names: relative to the table, absolute, `~/...` or a URI."""
    if video.startswith(_FILE):
        path = video.removeprefix(_FILE)
        return unquote(path) if missing(path) else path
    if "://" in video or PurePosixPath(video).is_absolute():
        return video
    if local_path(str(table)) is None:  # an object store does not know `.` and `..`
        folder = table.parent
        for part in posixpath.normpath(video).split("/"):
            folder = folder.parent if part == ".." else folder / part
        return str(folder)
    if video.startswith("~/"):
        return str(Path(video).expanduser())
    return str(table.parent / video)


def local_path(uri: str) -> str | None:
    """The path of a file of this machine; None for one elsewhere."""
    return None if "://" in uri else uri


def identity(uri: str) -> str:
    """The same for all ways to write one file."""
    path = local_path(uri)
    return uri if path is None else os.path.realpath(path)


def windows_path(table: UPath, video: str, uri: str) -> str:
    """The sentence for a path that Windows writes and other systems do not know; "" where there is nothing to say."""
    if not _WINDOWS.search(video) or (UPath(uri).exists() if local_path(uri) is None else not missing(uri)):
        return ""
    slashed = resolve(table, video.replace("\\", "/"))
    if local_path(slashed) is not None and not missing(slashed):
        return "The path has backslashes; with forward slashes the file is found."
    return "A path of Windows: write it with forward slashes, from the table's folder on, such as `clips/a.mp4`."


def is_folder(path: str) -> bool:
    """Whether a local path is a folder, or a link to one; one that cannot be looked at is none."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except OSError:
        return False


def missing(uri: str) -> str:
    """The sentence for a file that is not there; "" where it is, or where its place is known and elsewhere."""
    path = local_path(uri)
    if path is None:
        try:
            _ = UPath(uri).fs  # knows the kind of place, and has what it needs
        except (ValueError, ImportError) as error:
            return f"{uri} is at a place of a kind that cannot be read here: {error}."
        return ""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return f"{uri} {'is a link to what is not there' if Path(path).is_symlink() else 'does not exist'}."
    except OSError as error:
        return f"{uri} cannot be opened: {error.strerror}."
    return "" if stat.S_ISREG(mode) else f"{uri} is no file, but {'a folder' if stat.S_ISDIR(mode) else 'a device'}."
