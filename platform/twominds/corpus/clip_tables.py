"""A table of clips: one row is one clip, by the meaning of its columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from upath import UPath

from twominds.corpus.cells import (
    attribute_of,
    is_empty,
    is_missing,
    label_of,
    question_of,
    short_text_of,
    split_of,
    text_of,
)
from twominds.corpus.columns import Meaning, meaning_of
from twominds.corpus.places import resolve, windows_path
from twominds.corpus.problems import Problems, listed, refuse, shown
from twominds.corpus.rows import read_table
from twominds.corpus.splits import check_files, check_people
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure, Task, clip_labels

_T = TypeVar("_T")


def read_clip_table(file: UPath, task: Task) -> Corpus:
    """The corpus of a table, all of it checked before any of it is refused.

    Raises:
        CorpusError: rows or columns are wrong; names all of them, and what to write instead.
    """
    problems = Problems(file)
    table = read_table(file, problems)
    if not table.rows:
        refuse([problems])
        raise CorpusError(f"{file} has no rows.")
    meaning = meaning_of(table.columns, problems)
    clips: dict[str, tuple[int, Clip]] = {}
    failures: list[Failure] = []
    empty_rows = 0
    for number, cells in table.rows:
        if all(is_empty(cell) for cell in cells):
            empty_rows += 1
            continue
        found = _read_clip(_TableRow(cells=cells, number=number, meaning=meaning, problems=problems), task)
        if found is None:
            continue
        clip, failure = found
        if clip.clip_id in clips:
            first, _ = clips[clip.clip_id]
            column = "clip_id" if "clip_id" in meaning.ours else "video"
            again = f"{shown(clip.clip_id)} as in row {first}"
            problems.add("a clip may be there only once", row=number, column=column, found=again)
            continue
        clips[clip.clip_id] = number, clip
        if failure:
            failures.append(Failure(clip_id=clip.clip_id, stage="corpus", reason=failure))
    numbered = list(clips.values())
    notes = [*table.notes, *check_people(numbered, problems), *check_files(numbered, problems)]
    refuse([problems])
    if not clips:
        raise CorpusError(f"{file} has no rows.")
    if empty_rows:
        notes.append(f"Rows passed over, since they are empty: {empty_rows}.")
    if meaning.attributes:
        kept = listed(f"`{name}`" for name in meaning.attributes)
        notes.append(f"Columns kept as attributes, which are for reports alone: {kept}.")
    return Corpus(clips=tuple(clip for _, clip in numbered), failures=tuple(failures), notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class _TableRow:
    """One row's cells by our names; what cannot be read becomes a problem, and is absent."""

    cells: Sequence[object]
    number: int
    meaning: Meaning
    problems: Problems

    def cell(self, column: str) -> object:
        index = self.meaning.ours.get(column)
        return None if index is None else self.cells[index]

    def read(
        self, column: str, reader: Callable[[object], _T], *, is_nothing: Callable[[object], bool] = is_empty
    ) -> _T | None:
        cell = self.cell(column)
        if is_nothing(cell):
            return None
        try:
            return reader(cell)
        except ValueError as error:
            found = shown(cell) if isinstance(cell, str | int | float) else ""
            self.problems.add(str(error), row=self.number, column=column, found=found)
            return None

    def attributes(self) -> dict[str, str]:
        cells = {name: attribute_of(self.cells[index]) for name, index in self.meaning.attributes.items()}
        return {name: text for name, text in cells.items() if text}


def _read_clip(row: _TableRow, task: Task) -> tuple[Clip, str] | None:
    """A row's clip, and why it is of no use ("": as far as can be seen it is of use); None where no video is named."""
    if is_empty(row.cell("video")):
        row.problems.add("name the file of the video", row=row.number, column="video")
        return None
    table, video = row.problems.file, row.read("video", short_text_of)
    if video is None:
        return None
    uri, label = resolve(table, video), row.read("label", lambda cell: label_of(cell, task))
    clip = Clip(
        clip_id=row.read("clip_id", short_text_of) or video,
        video_uri=uri,
        split=row.read("split", split_of),
        labels=clip_labels(label),
        transcript=row.read("transcript", text_of, is_nothing=is_missing),
        participant_id=row.read("participant", short_text_of),
        question=row.read("question", question_of),
        attributes=row.attributes(),
    )
    return clip, windows_path(table, video, uri)
