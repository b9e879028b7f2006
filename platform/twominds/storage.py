"""Files that are there whole or not at all, local or on an object store, and URIs as Ray takes them."""

import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError
from upath import UPath

from twominds.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_PROBE_BYTES = 1 << 20
"""A disk with less room is as good as full."""


def is_local(path: UPath) -> bool:
    """Whether a path is one of this machine's file system."""
    return path.protocol in ("", "file", "local")


def storage_of(uri: str) -> "tuple[pafs.FileSystem, str]":
    """The pyarrow filesystem of a local path or URI, and the path on it (`bucket/prefix` for S3)."""
    import pyarrow.fs as pafs  # not at import: many processes write files and know no Arrow

    path = UPath(uri)
    if is_local(path):
        return pafs.LocalFileSystem(), str(Path(path.path).resolve())
    handler = pafs.FSSpecHandler(path.fs)  # pyright: ignore[reportAbstractUsage]  # the stubs do not know its methods
    return pafs.PyFileSystem(handler), path.path


def write_whole(target: UPath | Path, payload: bytes | Path) -> None:
    """Writes a file that no reader ever sees half of, in a folder that is made where it is missing.

    On return the file is on the disk, and not only in the machine's memory. Of several writers of one file the last
    one's is kept, whole. A writer that fails leaves the file that was there as it was.

    Args:
        target: The file that is written.
        payload: What it holds, or a local file that holds it (for what is too large for the memory).
    """
    target = UPath(target)
    with errors_of_storage():
        if is_local(target):
            _replace(Path(target.path), payload)
        elif isinstance(payload, bytes):
            target.write_bytes(payload)  # object stores show a file when it is complete, and keep it
        else:
            target.fs.put_file(str(payload), target.path)


def _replace(target: Path, payload: bytes | Path) -> None:
    _make_folder(target.parent)
    # A name of its own: two that write the same file at once must not write into each other's.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as sink:
            if isinstance(payload, bytes):
                sink.write(payload)
            else:
                with payload.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, so that they outlast a power failure like the files in them."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """What is in a folder, and under which name, is on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(uri: str) -> None:
    """Finds out, before any work is done, that a result can be kept in the folder at `uri`; it is made on the way.

    Raises:
        ConfigError: it cannot; says why.
    """
    try:
        probe = UPath(uri) / f".probe-{uuid.uuid4().hex}"
        write_whole(probe, bytes(_PROBE_BYTES))
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: no such kind of URI
        blocked = isinstance(error, NotADirectoryError | FileExistsError)
        reason = "a file is where a folder should be" if blocked else getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"Nothing can be kept at {uri}: {reason}. Choose another place for it, or see to that one first."
        ) from error


def read_if_there(path: UPath) -> bytes | None:
    """What a file holds now, or None where there is none.

    Object stores' filesystems remember listings, and would not see what other processes wrote meanwhile.
    """
    with errors_of_storage():
        path.fs.invalidate_cache(path.path)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def files_in(uri: str, pattern: str) -> list[UPath]:
    """The files of a folder as they are now, in the order of their names; none where the folder is missing."""
    folder = UPath(uri)
    with errors_of_storage():
        folder.fs.invalidate_cache()
        return sorted(folder.glob(pattern), key=str) if folder.exists() else []


@contextmanager
def errors_of_storage() -> Generator[None]:
    """An object store that is away is an OSError, as a disk is; botocore's errors are of a kind of their own."""
    try:
        yield
    except BotoCoreError as error:
        raise ConnectionError(str(error)) from error
