"""Features that are more than memory holds: copied out of their Parquet files, one after another, and mapped."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.records import Split, View
from twominds.results import tables

_ALIGNED = 64
"""Every array begins at a multiple of so many bytes, as NumPy and torch like it."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def values_on_disk(uri: str, view: View, splits: Sequence[Split]) -> dict[str, npt.NDArray[Any]]:
    """`Features.values` of one view of the clips of some splits, by clip id.

    One Parquet file is in memory at a time. Its arrays go to one file of this machine (in TMPDIR) that is mapped into
    memory: what is looked at is read, and what is not may be dropped again. The file has no name any more when this
    returns, so it is gone with the last array, however the process ends.

    Args:
        uri: Folder of features; local or s3://.
        view: The view whose values are read.
        splits: The splits whose clips are read.
    """
    places: dict[str, _Place] = {}
    with tempfile.NamedTemporaryFile(prefix="twominds-features-", delete=False) as file:
        path = Path(file.name)
        try:
            for table in tables.read_tables(uri, [f"{view}_values"], splits):
                for clip_id, cell in zip(*(table[name] for name in ("clip_id", f"{view}_values")), strict=True):
                    if cell.is_valid:
                        array = np.ascontiguousarray(tables.unpack_array(cell.as_py()))
                        file.write(bytes(-file.tell() % _ALIGNED))
                        places[clip_id.as_py()] = _Place(start=file.tell(), dtype=array.dtype, shape=array.shape)
                        file.write(array.data)
            file.flush()
            # Of its own, as torch takes no array that can't be written to; what were written would not reach the file.
            mapped = np.memmap(path, np.uint8, "c") if file.tell() else np.zeros(0, np.uint8)
        finally:
            path.unlink()
    return {
        clip_id: np.asarray(mapped[of.start : of.start + of.nbytes]).view(of.dtype).reshape(of.shape)
        for clip_id, of in places.items()
    }
