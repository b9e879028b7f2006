"""URIs as Ray's storage arguments: Ray takes a filesystem and a path on it."""

from pathlib import Path

import pyarrow.fs as pafs
from upath import UPath


def storage_of(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow filesystem of a local path or URI, and the path on it (`bucket/prefix` for S3)."""
    path = UPath(uri)
    if path.protocol in ("", "file"):
        return pafs.LocalFileSystem(), str(Path(path.path).resolve())
    handler = pafs.FSSpecHandler(path.fs)  # pyright: ignore[reportAbstractUsage]  # the stubs do not know its methods
    return pafs.PyFileSystem(handler), path.path
