"""A folder of results brought up to date with its clips: nothing stale stays in it, and nothing else is made again.

What is made of a clip hangs on its file and its words. Where one of them has changed, the clip's row goes, and the job
makes it again; of features, where it is the words alone, only those of the text. Where only what the corpus says of the
clip has changed (its label, say), the row is mended in place. The row of a clip that is no longer there goes for good:
its participant may have withdrawn. With clips in quarantine it is the same.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import pyarrow as pa
from upath import UPath

from twominds.errors import ConfigError
from twominds.records import Clip, Modality, Source, View
from twominds.results import tables
from twominds.results.quarantine import (
    QUARANTINE,
    Aside,
    quarantine_files,
    quarantined_clips,
    read_aside,
    write_aside,
)
from twominds.storage import files_in, write_whole

_SAID = [each.name for each in fields(Clip) if each.name not in ("clip_id", "transcript", "words", "vectors", "source")]
"""What the corpus says of a clip, and its features do not hang on."""

Words = Literal["all", "text", "nothing"]
"""What of a row hangs on the corpus's words."""


@dataclass(kw_only=True)
class Renewal:
    """What became of the rows of a folder."""

    done: set[str] = field(default_factory=set[str])
    """The clips whose rows stand."""
    again: set[str] = field(default_factory=set[str])
    """Those that are to be made again; also such as were in quarantine."""
    reworded: set[str] = field(default_factory=set[str])
    """Those of which only the text is to be made again. Their rows are as they were: see `replace_text`."""
    changed: Counter[str] = field(default_factory=Counter[str])
    """Why they are: how many videos, and how many transcripts."""
    of_older: int = 0
    """How many of them were made before sources were kept."""
    mended: Counter[str] = field(default_factory=Counter[str])
    """How many clips have another label, split, ... now."""
    gone: set[str] = field(default_factory=set[str])
    """Clips that are no longer there, whose rows were removed."""
    without_file: int = 0
    """Clips that stand, although their file is not there to be compared."""

    def notes(self) -> list[str]:
        """The same for the job's summary, in sentences. Empty where nothing has changed."""
        notes: list[str] = []
        if self.changed:
            what = " and ".join(_counted(count, name) for name, count in sorted(self.changed.items()))
            parts = ("", len(self.again) - self.of_older), ("the text of ", len(self.reworded))
            again = " and ".join(part + _counted(count, "clip") for part, count in parts if count)
            notes.append(f"Changed since they were made: {what}; {again} to be made again.")
        if self.of_older:
            notes.append(f"Made by an older version, which did not keep of what: {_counted(self.of_older, 'clip')}.")
        if self.mended:
            what = ", ".join(f"{name} ({_counted(count, 'clip')})" for name, count in sorted(self.mended.items()))
            notes.append(f"The corpus now says otherwise: {what}. Mended in the results; no clip is made again for it.")
        if self.gone:
            gone = _counted(len(self.gone), "clip")
            notes.append(f"No longer in the corpus: {gone}. What was made of them is removed.")
        if self.without_file:
            missing = _counted(self.without_file, "video")
            notes.append(
                f"Not to be found now: {missing}. What was made of them is kept; it goes when they leave the corpus."
            )
        return notes


def renew(uri: str, clips: Iterable[Clip], *, words: Words = "all") -> Renewal:
    """Removes what does not stand any more from the results and the quarantine below `uri`, and mends the rest.

    Args:
        uri: Folder of results that carry their clips (`tables.WITHOUT_WORDS`).
        clips: What it is of as it is now: the corpus with its sources, or the clips of the results before it.
        words: What of a row hangs on the corpus's words.

    Raises:
        ConfigError: not one clip of the folder is there any more: rather another corpus than one that was mended.
    """
    now, renewal = {clip.clip_id: clip for clip in clips}, Renewal()
    files = files_in(uri, "*.parquet")
    before = {path: _clips_of(path) for path in files}
    if files and not any(clip.clip_id in now for found in before.values() for clip in found):
        raise ConfigError(
            f"None of the clips of {uri} is in the corpus any more: it seems to be another one, or to name its clips "
            "otherwise. Choose another --output, or remove that folder."
        )
    for path, found in before.items():
        kept = [_standing(clip, now, renewal, words) for clip in found]
        renewal.done |= {clip.clip_id for clip in kept if clip}
        if kept != found:
            _rewrite(path, kept)
    for path in quarantine_files(uri):
        aside = read_aside(path)
        standing = [(clip, failure) for old, failure in aside if (clip := _standing(old, now, renewal, "all"))]
        if standing != aside:
            _rewrite_aside(path, standing)
    renewal.again -= renewal.done
    renewal.done -= renewal.reworded
    return renewal


def _clips_of(path: UPath) -> list[Clip]:
    return [tables.clip_from_row(row) for row in tables.read_table(path, tables.WITHOUT_WORDS).to_pylist()]


def _standing(before: Clip, now: dict[str, Clip], renewal: Renewal, words: Words) -> Clip | None:
    """The clip as it is now, noted in `renewal`; None where its row has to go."""
    after = now.get(before.clip_id)
    if after is None:
        renewal.gone.add(before.clip_id)
        return None
    was, source = before.source, after.source or before.source
    if was and source and was.video and not source.video:
        renewal.without_file += 1
        source = was  # nothing can be made again without it
    what = _what_changed(was, source) if was and source else []
    if what == ["transcript"] and words == "text":
        renewal.changed.update(what if before.clip_id not in renewal.reworded else ())
        renewal.reworded.add(before.clip_id)
        return before
    if source != was and not (what == ["transcript"] and words == "nothing"):
        if before.clip_id not in renewal.again:
            renewal.again.add(before.clip_id)
            renewal.changed.update(what)
            renewal.of_older += was is None
        return None
    after = replace(after, transcript=None, words=None, vectors={}, source=source)
    renewal.mended.update(name for name in _SAID if getattr(before, name) != getattr(after, name))
    return after


def _what_changed(was: Source, source: Source) -> list[str]:
    return ["video"] * (was.video != source.video) + ["transcript"] * (was.words != source.words)


def replace_text(uri: str, again: str, views: Sequence[View] = (Modality.TEXT,)) -> None:
    """Puts texts that were made again in place of the old ones, and their clips as they are now.

    A clip whose text could not be made goes to quarantine.

    Args:
        uri: Folder of features.
        again: Folder of features of the text alone, which is removed; where it is missing, there are none.
        views: Those of the text that hang on the words.
    """
    folder = UPath(again)
    if not folder.exists():
        return
    rows = {row["clip_id"]: row for row in tables.read_rows(again)}
    for path in quarantine_files(again):
        write_aside(UPath(uri) / QUARANTINE / path.name, read_aside(path))
    lost = {clip.clip_id for clip, _ in quarantined_clips(again)}
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    fields += tables.features_fields(*views)
    for path in files_in(uri, "*.parquet"):
        if not any(clip.clip_id in rows or clip.clip_id in lost for clip in _clips_of(path)):
            continue
        table = tables.read_table(path)
        table = table.filter(pa.array([clip_id not in lost for clip_id in table["clip_id"].to_pylist()], pa.bool_()))
        there = [field for field in fields if field.name in table.schema.names]
        before = table.select([field.name for field in there]).to_pylist()
        table = tables.append_columns(table, there, [rows.get(row["clip_id"], row) for row in before])
        _write(path, table)
    folder.fs.rm(folder.path, recursive=True)


def _rewrite(path: UPath, kept: list[Clip | None]) -> None:
    """The file with the rows that stand, as their clips are now; no file where none does."""
    table = tables.read_table(path).filter(pa.array([clip is not None for clip in kept]))
    rows = [tables.clip_to_row(clip) for clip in kept if clip]
    columns: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    _write(path, tables.append_columns(table, columns, rows))


def _write(path: UPath, table: pa.Table) -> None:
    if table.num_rows:
        write_whole(path, tables.to_parquet(table))
    else:
        path.unlink()


def _rewrite_aside(path: UPath, standing: list[Aside]) -> None:
    if standing:
        write_aside(path, standing)
    else:
        path.unlink()


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
