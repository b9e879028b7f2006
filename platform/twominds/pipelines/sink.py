"""Where a pipeline's rows come to rest: results in Parquet, failed clips in quarantine with their reason."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data import Datasink
from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block, BlockAccessor
from ray.util.queue import Queue
from upath import UPath

from twominds.pipelines import tables
from twominds.pipelines.progress import counted_clips
from twominds.pipelines.storage import files_in, write_whole
from twominds.records import Failure

QUARANTINE = "quarantine"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one write task left behind."""

    clips: int
    failures: tuple[Failure, ...]


class ClipSink(Datasink[Written]):
    """Clips that went through to `<uri>/<digest>.parquet`, the others to `<uri>/quarantine/<digest>.jsonl`.

    The digest is that of the task's clip ids: a task that Ray runs twice overwrites its own file.
    """

    def __init__(self, uri: str, columns: list[str]) -> None:
        """Takes the folder (local or `s3://`) and the columns to keep."""
        self._uri = uri
        self._columns = columns
        self._progress: Queue | None = None
        self.clips = 0
        self.failures: list[Failure] = []

    def take(self, dataset: ray.data.Dataset, *, expected: int) -> None:
        """Runs the dataset into this sink, and shows how many of the `expected` clips are done."""
        with counted_clips(expected) as self._progress:
            dataset.write_datasink(self)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> Written:
        """Writes the rows of one task."""
        table = pa.concat_tables([BlockAccessor.for_block(b).to_arrow() for b in blocks])
        if table.num_rows == 0:
            return Written(clips=0, failures=())
        digest = hashlib.sha256("\n".join(sorted(cast("list[str]", table["clip_id"].to_pylist()))).encode()).hexdigest()
        failed = [row for row in table.select(_ERRORS).to_pylist() if row["error"]]
        mask = pa.array([not error for error in cast("list[str]", table["error"].to_pylist())])
        kept = table.filter(mask).select(self._columns)
        if kept.num_rows:
            write_whole(UPath(self._uri) / f"{digest[:16]}.parquet", _parquet(kept))
        failures = tuple(_failure(row["clip_id"], row["video_uri"], row["error_stage"], row["error"]) for row in failed)
        if failed:
            lines = "".join(_quarantine_line(row) + "\n" for row in failed)
            write_whole(UPath(self._uri) / QUARANTINE / f"{digest[:16]}.jsonl", lines.encode())
        if self._progress is not None:
            self._progress.put(table.num_rows)
        return Written(clips=kept.num_rows, failures=failures)

    def on_write_complete(self, write_result: Any) -> None:
        """Adds up what the tasks did."""
        for written in cast("list[Written]", write_result.write_returns):
            self.clips += written.clips
            self.failures.extend(written.failures)


_ERRORS = ["clip_id", "video_uri", "error_stage", "error"]


def _quarantine_line(row: tables.Row) -> str:
    return json.dumps(
        {
            "clip_id": row["clip_id"],
            "video_uri": row["video_uri"],
            "stage": row["error_stage"],
            "reason": row["error"],
        }
    )


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", row_group_size=64)
    return buffer.getvalue().to_pybytes()


def read_quarantine(uri: str) -> list[Failure]:
    """The clips that are in quarantine below `uri`, each once."""
    files = files_in(f"{uri}/{QUARANTINE}", "*.jsonl")
    lines = [line for path in files for line in path.read_text().splitlines() if line]
    rows = {row["clip_id"]: row for row in map(json.loads, lines)}
    return [_failure(row["clip_id"], row["video_uri"], row["stage"], row["reason"]) for row in rows.values()]


def empty_quarantine(uri: str) -> None:
    """Forgets the clips that are in quarantine below `uri`, so that they are tried again."""
    for path in files_in(f"{uri}/{QUARANTINE}", "*.jsonl"):
        path.unlink()


def _failure(clip_id: str, video_uri: str, stage: str, reason: str) -> Failure:
    """A failure for the summary, without the file's name: that may tell who it is, and stays in the quarantine."""
    return Failure(clip_id=clip_id, stage=stage, reason=reason.replace(video_uri, "the file"))
