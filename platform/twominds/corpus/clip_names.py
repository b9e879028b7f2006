"""Finds the clip of a corpus that a row of a second table is about."""

from collections.abc import Sequence

from upath import UPath

from twominds.corpus.cells import is_empty, short_text_of
from twominds.corpus.places import identity, resolve
from twominds.corpus.problems import shown
from twominds.corpus.table_rows import TableRow
from twominds.records import Clip


class ClipNames:
    """Finds the clip that a row names in `clip_id`, or by its file in `video`."""

    def __init__(self, clips: Sequence[Clip], corpus: UPath, table: UPath) -> None:
        self._ids = {clip.clip_id for clip in clips}
        self._of_file: dict[str, list[str]] = {}
        for clip in clips:
            self._of_file.setdefault(identity(clip.video_uri), []).append(clip.clip_id)
        self._tables = (corpus / "_" if corpus.is_dir() else corpus, table)
        self._found: dict[str, list[str]] = {}

    def clip_of(self, row: TableRow, *, strangers: bool = False) -> str | None:
        """The id of the row's clip; None where it names none, or several, which is then a problem.

        Args:
            row: A row of a table with either column.
            strangers: Whether it may name clips that the corpus does not have.
        """
        column = "clip_id" if "clip_id" in row.meaning.ours else "video"
        if is_empty(row.cell(column)):
            row.problems.add("name the clip", row=row.number, column=column)
        name = row.read(column, short_text_of)
        if name is None:
            return None
        if name not in self._found:
            self._found[name] = [name] if name in self._ids else self._by_file(name)
        found = self._found[name]
        if not found and not strangers:
            remedy = "the corpus has no such clip: write its `clip_id`, or its video as the corpus has it"
            row.problems.add(remedy, row=row.number, column=column, found=shown(name))
        elif len(found) > 1:
            remedy = "several clips are of this video: write `clip_id` instead"
            row.problems.add(remedy, row=row.number, column=column, found=shown(name))
        return found[0] if len(found) == 1 else None

    def _by_file(self, name: str) -> list[str]:
        places = (identity(resolve(table, name)) for table in self._tables)
        return next((self._of_file[place] for place in places if place in self._of_file), list[str]())
