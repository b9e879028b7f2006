"""URIs as Ray takes them, and files that are there whole or not at all."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs
from botocore.exceptions import BotoCoreError
from upath import UPath


def storage_of(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of a local path or URI, and the path on it (`bucket/prefix` for S3)."""
    path = UPath(uri)
    if path.protocol in ("", "file"):
        return pafs.LocalFileSystem(), str(Path(path.path).resolve())
    handler = pafs.FSSpecHandler(path.fs)  # pyright: ignore[reportAbstractUsage]  # the stubs do not know its methods
    return pafs.PyFileSystem(handler), path.path


def write_whole(target: UPath, payload: bytes) -> None:
    """Writes a file that no reader ever sees half of, in a folder that is made where it is missing."""
    with _errors_of_storage():
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.protocol in ("", "file"):
            partial = target.with_name(f".{target.name}.partial")
            partial.write_bytes(payload)
            partial.rename(target)
        else:
            target.write_bytes(payload)  # object stores give that by themselves


def read_if_there(path: UPath) -> bytes | None:
    """What a file holds now, or None where there is none.

    Object stores' filesystems remember listings, and would not see what other processes wrote meanwhile.
    """
    with _errors_of_storage():
        path.fs.invalidate_cache(path.path)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def files_in(uri: str, pattern: str) -> list[UPath]:
    """The files of a folder as they are now, in the order of their names; none where the folder is missing."""
    folder = UPath(uri)
    with _errors_of_storage():
        folder.fs.invalidate_cache()
        return sorted(folder.glob(pattern), key=str) if folder.exists() else []


@contextmanager
def _errors_of_storage() -> Generator[None]:
    """An object store that is away is an OSError, as a disk is; botocore's errors are of a kind of their own."""
    try:
        yield
    except BotoCoreError as error:
        raise ConnectionError(str(error)) from error
