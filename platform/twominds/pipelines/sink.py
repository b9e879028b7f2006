"""Where a pipeline's rows come to rest: results in Parquet, failed clips in quarantine with their reason."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Dataset, Datasink
from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block, BlockAccessor
from ray.util.queue import Queue
from upath import UPath

from twominds.errors import TwomindsError
from twominds.pipelines.progress import counted_clips
from twominds.records import Clip, Failure
from twominds.reports.summary import commonest
from twominds.results import tables
from twominds.results.quarantine import QUARANTINE, Aside, nameless, put_aside, read_quarantine
from twominds.storage import write_whole

logger = logging.getLogger(__name__)


LOST = "The processes that worked on this clip died or failed, twice: it may want too much memory, or crash a decoder."


class PipelineError(TwomindsError):
    """A pipeline came to nothing."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one write task left behind."""

    clips: int
    failures: tuple[Failure, ...]
    problem: str = ""
    """Why nothing could be written, if so. No error: one that a task ends with is taken for that of a clip."""


class ClipSink(Datasink[Written]):
    """Clips that went through to `<uri>/<digest>.parquet`, the others to `<uri>/quarantine/<digest>.jsonl`.

    The digest is that of the task's clip ids: a task that Ray runs twice overwrites its own file.
    """

    def __init__(self, uri: str, columns: list[str], *, block_size: int = 8) -> None:
        """Takes the folder (local or `s3://`), the columns to keep, and how many clips are worked on together."""
        self.uri = uri
        self.block_size = block_size
        self._columns = columns
        self._progress: Queue | None = None
        self._problem = ""
        self.clips = 0
        self.failures: list[Failure] = []

    def take(self, dataset: Dataset, *, expected: int) -> None:
        """Runs the dataset into this sink, and shows how many of the `expected` clips are done.

        Raises:
            PipelineError: the folder could not be written any more.
        """
        with counted_clips(expected) as self._progress:
            dataset.write_datasink(self)
        if self._problem:
            raise PipelineError(
                f"Not all can be kept at {self.uri}: {self._problem}. What was finished is kept: make room or see to "
                "it, and the same command goes on from there."
            )

    def quarantine(self, clips: Sequence[Clip], *, stage: str, reason: str) -> None:
        """Puts clips aside that no task could."""
        if not clips:
            return
        aside = [(clip, Failure(clip_id=clip.clip_id, stage=stage, reason=reason)) for clip in clips]
        put_aside(self.uri, _digest([clip.clip_id for clip in clips]), aside)
        self.failures.extend(failure for _, failure in aside)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> Written:
        """Writes the rows of one task."""
        try:
            return self.write_table(pa.concat_tables([BlockAccessor.for_block(b).to_arrow() for b in blocks]))
        except OSError as error:
            return Written(clips=0, failures=(), problem=error.strerror or str(error))

    def write_table(self, table: pa.Table) -> Written:
        """Writes rows, those that failed to quarantine."""
        if table.num_rows == 0:
            return Written(clips=0, failures=())
        digest = _digest(cast("list[str]", table["clip_id"].to_pylist()))
        mask = pa.array([not error for error in cast("list[str]", table["error"].to_pylist())])
        failed = [_aside(row) for row in _select(table.filter(pc.invert(mask)), _ASIDE).to_pylist()]
        kept = _select(table.filter(mask) if failed else table, self._columns)  # a filter copies
        if kept.num_rows:
            with tempfile.TemporaryDirectory(prefix="twominds-rows-") as scratch:
                tables.write_parquet(kept, file := Path(scratch, "rows.parquet"))
                write_whole(UPath(self.uri) / f"{digest}.parquet", file)
        if failed:
            put_aside(self.uri, digest, failed)
        if self._progress is not None:
            self._progress.put(table.num_rows)
        return Written(clips=kept.num_rows, failures=tuple(nameless(*aside) for aside in failed))

    def on_write_complete(self, write_result: Any) -> None:
        """Adds up what the tasks did."""
        for written in cast("list[Written]", write_result.write_returns):
            self.clips += written.clips
            self.failures.extend(written.failures)
            self._problem = self._problem or written.problem


def process_clips(sink: ClipSink, clips: Sequence[Clip], dataset_of: Callable[[Sequence[Clip], int], Dataset]) -> None:
    """Runs clips into `sink` such that one of them may kill the processes that work on it (a codec's crash, memory).

    Clips that were lost with their process are tried once more, each in a block of its own. Those that are lost again
    go to quarantine.

    Args:
        sink: Where the rows go.
        clips: What to work on.
        dataset_of: The pipeline over some of the clips, in blocks of so many.

    Raises:
        PipelineError: not one clip came through, or the folder can't be written any more: it is no clip's fault.
    """
    for attempt in (1, 2):
        lost = _unaccounted(sink.uri, clips)
        if not lost:
            return
        if attempt == 2:
            logger.warning("%d clips were lost with their processes; each is tried once more by itself.", len(lost))
        dataset = dataset_of(lost, sink.block_size if attempt == 1 else 1)
        dataset.context.max_errored_blocks = -1  # the others go on
        sink.take(dataset, expected=len(lost))
    lost = _unaccounted(sink.uri, clips)
    if lost and len(lost) == len(clips) > 1:
        raise PipelineError(
            f"None of {len(clips)} clips came through: the processes that worked on them died or failed. Ray's logs "
            "say of what (`ray logs`, or the newest folder of /tmp/ray)."
        )
    sink.quarantine(lost, stage="process", reason=LOST)


def check_usable(usable: int, failures: Sequence[Failure], uri: str) -> None:
    """Ends a job that has nothing to go on with.

    Args:
        usable: How many clips have a result in the folder.
        failures: Why the others do not, without names.
        uri: The folder of results, for what the error says.

    Raises:
        PipelineError: no clip has a result.
    """
    if usable:
        return
    reasons = "".join(f"\n  {count} x {stage}: {reason}" for stage, reason, count in commonest(failures))
    raise PipelineError(
        f"Not one of {len(failures)} clips could be used:{reasons}\nWhich clips, and where their files are looked for, "
        f"is in {uri}/{QUARANTINE}. The same command tries those again whose file or words have changed by then."
    )


def _unaccounted(uri: str, clips: Sequence[Clip]) -> list[Clip]:
    """Those that are neither among the results nor in quarantine."""
    known = {row["clip_id"] for row in tables.read_rows(uri, columns=[])}
    known |= {failure.clip_id for failure in read_quarantine(uri)}
    return [clip for clip in clips if clip.clip_id not in known]


_ASIDE = (*tables.WITHOUT_WORDS, "error_stage", "error")


def _aside(row: tables.Row) -> Aside:
    clip = tables.clip_from_row(row)
    return clip, Failure(clip_id=clip.clip_id, stage=row["error_stage"], reason=row["error"])


def _select(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Those of the columns that there are: results of an older version may lack some."""
    return table.select([name for name in columns if name in table.schema.names])


def _digest(clip_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(clip_ids)).encode()).hexdigest()[:16]
