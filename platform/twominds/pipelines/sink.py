"""Where a pipeline's rows come to rest: results in Parquet, failed clips in quarantine with their reason."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Dataset, Datasink
from ray.data._internal.execution.interfaces import TaskContext
from ray.data.block import Block, BlockAccessor
from ray.util.queue import Queue
from upath import UPath

from twominds.errors import TwomindsError
from twominds.pipelines import tables
from twominds.pipelines.progress import counted_clips
from twominds.records import Clip, Corpus, Failure
from twominds.storage import files_in, write_whole

QUARANTINE = "quarantine"

logger = logging.getLogger(__name__)


LOST = "The processes that worked on this clip died or failed, twice: it may want too much memory, or crash a decoder."


class PipelineError(TwomindsError):
    """A pipeline came to nothing."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one write task left behind."""

    clips: int
    failures: tuple[Failure, ...]


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
        self.clips = 0
        self.failures: list[Failure] = []

    def take(self, dataset: Dataset, *, expected: int) -> None:
        """Runs the dataset into this sink, and shows how many of the `expected` clips are done."""
        with counted_clips(expected) as self._progress:
            dataset.write_datasink(self)

    def quarantine(self, clips: Sequence[Clip], *, stage: str, reason: str) -> None:
        """Puts clips aside that no task could."""
        if not clips:
            return
        aside = [(clip, Failure(clip_id=clip.clip_id, stage=stage, reason=reason)) for clip in clips]
        _write_quarantine(self.uri, _digest([clip.clip_id for clip in clips]), aside)
        self.failures.extend(failure for _, failure in aside)

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> Written:
        """Writes the rows of one task."""
        return self.write_table(pa.concat_tables([BlockAccessor.for_block(b).to_arrow() for b in blocks]))

    def write_table(self, table: pa.Table) -> Written:
        """Writes rows, those that failed to quarantine."""
        if table.num_rows == 0:
            return Written(clips=0, failures=())
        digest = _digest(cast("list[str]", table["clip_id"].to_pylist()))
        mask = pa.array([not error for error in cast("list[str]", table["error"].to_pylist())])
        columns = [name for name in (*tables.WITHOUT_WORDS, *_ERRORS) if name in table.schema.names]
        failed = [_aside(row) for row in table.filter(pc.invert(mask)).select(columns).to_pylist()]
        kept = table.filter(mask).select(self._columns)
        if kept.num_rows:
            write_whole(UPath(self.uri) / f"{digest}.parquet", tables.to_parquet(kept))
        if failed:
            _write_quarantine(self.uri, digest, failed)
        if self._progress is not None:
            self._progress.put(table.num_rows)
        return Written(clips=kept.num_rows, failures=tuple(_nameless(*aside) for aside in failed))

    def on_write_complete(self, write_result: Any) -> None:
        """Adds up what the tasks did."""
        for written in cast("list[Written]", write_result.write_returns):
            self.clips += written.clips
            self.failures.extend(written.failures)


def process_clips(sink: ClipSink, clips: Sequence[Clip], dataset_of: Callable[[Sequence[Clip], int], Dataset]) -> None:
    """Runs clips into `sink` such that one of them may kill the processes that work on it (a codec's crash, memory).

    Clips that were lost with their process are tried once more, each in a block of its own. Those that are lost again
    go to quarantine.

    Args:
        sink: Where the rows go.
        clips: What to work on.
        dataset_of: The pipeline over some of the clips, in blocks of so many.

    Raises:
        PipelineError: not one clip came through: it is no clip's fault.
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


def _unaccounted(uri: str, clips: Sequence[Clip]) -> list[Clip]:
    """Those that are neither among the results nor in quarantine."""
    known = {row["clip_id"] for row in tables.read_rows(uri, columns=[])}
    known |= {failure.clip_id for failure in read_quarantine(uri)}
    return [clip for clip in clips if clip.clip_id not in known]


_OF_CORPUS = "corpus"
_CARRIED = "from-before"
_ERRORS = ("error_stage", "error")

Aside = tuple[Clip, Failure]
"""A clip in quarantine, without its words, and why it is there."""


def _aside(row: tables.Row) -> Aside:
    clip = tables.clip_from_row(row)
    return clip, Failure(clip_id=clip.clip_id, stage=row["error_stage"], reason=row["error"])


def _write_quarantine(uri: str, name: str, aside: Sequence[Aside]) -> None:
    lines = "".join(json.dumps(_line(*one)) + "\n" for one in aside)
    write_whole(UPath(uri) / QUARANTINE / f"{name}.jsonl", lines.encode())


def _line(clip: Clip, failure: Failure) -> tables.Row:
    """What the corpus says of the clip is there, too: its label counts, although nothing else of it does."""
    row = tables.clip_to_row(clip)
    return {name: row[name] for name in tables.WITHOUT_WORDS} | {"stage": failure.stage, "reason": failure.reason}


def _digest(clip_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(clip_ids)).encode()).hexdigest()[:16]


def quarantine_corpus(uri: str, corpus: Corpus, done: Collection[str]) -> None:
    """Puts the clips of which the corpus itself says that they are of no use in quarantine, unless they are done.

    They take the place of those of an earlier run: the corpus may have been mended since.
    """
    clips = {clip.clip_id: clip for clip in corpus.clips}
    _replace(uri, _OF_CORPUS, [(clips[f.clip_id], f) for f in corpus.failures if f.clip_id not in done])


def carry_quarantine(source: str, uri: str) -> list[Failure]:
    """Puts the clips in quarantine below `source` in that below `uri` as well: what is made of results lacks them.

    They take the place of those of an earlier run. Returns why they are there.
    """
    aside = quarantined_clips(source)
    _replace(uri, _CARRIED, aside)
    return [_nameless(*one) for one in aside]


def _replace(uri: str, name: str, aside: Sequence[Aside]) -> None:
    if aside or (UPath(uri) / QUARANTINE / f"{name}.jsonl").exists():
        _write_quarantine(uri, name, aside)


def quarantined_clips(uri: str) -> list[Aside]:
    """The clips in quarantine below `uri`, each once, with what the corpus says of them (not their words)."""
    files = files_in(f"{uri}/{QUARANTINE}", "*.jsonl")
    lines = [line for path in files for line in path.read_text().splitlines() if line]
    rows = {row["clip_id"]: row for row in map(json.loads, lines)}
    return [
        (tables.clip_from_row(row), Failure(clip_id=clip_id, stage=row["stage"], reason=row["reason"]))
        for clip_id, row in rows.items()
    ]


def read_quarantine(uri: str) -> list[Failure]:
    """Why the clips that are in quarantine below `uri` are there, for the summary."""
    return [_nameless(*aside) for aside in quarantined_clips(uri)]


def empty_quarantine(uri: str) -> None:
    """Forgets the clips that are in quarantine below `uri`, so that they are tried again."""
    for path in files_in(f"{uri}/{QUARANTINE}", "*.jsonl"):
        path.unlink()


def _nameless(clip: Clip, failure: Failure) -> Failure:
    """A failure for the summary, without the file's name: that may tell who it is, and stays in the quarantine."""
    return replace(failure, reason=failure.reason.replace(clip.video_uri, "the file"))
