"""Vectors that models of the user made of clips: columns `vector.NAME` of the table of clips, or of one beside it.

A cell that is no list of finite numbers, or a list of another length than most, costs its clip, not the corpus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from upath import UPath

from twominds.corpus.cells import is_empty, vector_of
from twominds.corpus.clip_names import ClipNames
from twominds.corpus.columns import VECTOR, Meaning, meaning_of
from twominds.corpus.problems import Problems, refuse, shown
from twominds.corpus.rows import read_table
from twominds.corpus.table_rows import TableRow
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure, FloatArray


class VectorRows:
    """Gathers the vectors of a table's clips, and what is wrong with them."""

    def __init__(self, file: UPath, meaning: Meaning) -> None:
        """Whose columns of vectors are read: those of `file`, in which `meaning` finds them."""
        self._file = file
        self.columns = [column for column in meaning.ours if column.startswith(VECTOR)]
        self._rows: dict[str, tuple[int, dict[str, FloatArray]]] = {}
        self._wrong: dict[str, list[str]] = {}

    def add(self, clip_id: str, row: TableRow) -> None:
        """Reads the row of a clip, of which there is one."""
        found: dict[str, FloatArray] = {}
        for column in self.columns:
            problems = Problems(self._file)
            vector = replace(row, problems=problems).read(column, vector_of)
            if vector is not None:
                found[column] = vector
            elif sentence := problems.text():
                self._wrong.setdefault(clip_id, []).append(sentence)
        self._rows[clip_id] = row.number, found

    def row_of(self, clip_id: str) -> int | None:
        """The number of the row that was added for a clip; None: there was none."""
        return self._rows[clip_id][0] if clip_id in self._rows else None

    def add_to(self, clips: Sequence[Clip]) -> tuple[list[Clip], list[Failure]]:
        """The clips with their vectors, beside those that they have; and those of which a vector is of no use."""
        wrong = self._wrong_clips()
        failures = [
            Failure(clip_id=clip.clip_id, stage="corpus", reason=" ".join(wrong[clip.clip_id]))
            for clip in clips
            if clip.clip_id in wrong
        ]
        return [clip if clip.clip_id in wrong else self._with_vectors(clip) for clip in clips], failures

    def _with_vectors(self, clip: Clip) -> Clip:
        _, found = self._rows.get(clip.clip_id, (0, dict[str, FloatArray]()))
        vectors = {column.removeprefix(VECTOR): vector for column, vector in found.items()}
        return replace(clip, vectors={**clip.vectors, **vectors}) if vectors else clip

    def _wrong_clips(self) -> Mapping[str, Sequence[str]]:
        """Sentences by clip; of lists whose lengths differ, those that fewest rows have are wrong."""
        wrong = {clip_id: list(sentences) for clip_id, sentences in self._wrong.items()}
        for column in self.columns:
            lengths = Counter(len(found[column]) for _, found in self._rows.values() if column in found)
            usual = lengths.most_common(1)[0][0] if lengths else 0
            for clip_id, (number, found) in self._rows.items():
                if column in found and len(found[column]) != usual:
                    problems = Problems(self._file)
                    remedy = f"write {usual} numbers, as in most rows"
                    problems.add(remedy, row=number, column=column, found=str(len(found[column])))
                    wrong.setdefault(clip_id, []).append(problems.text())
        return wrong


def with_vectors_of(corpus: Corpus, corpus_uri: str, vectors_uri: str) -> Corpus:
    """A corpus with the vectors of a table, in place of its own of the same names.

    The table (`.csv`, `.tsv`, `.jsonl`, `.parquet`) names clips in a column `clip_id` or `video` (as the corpus's own
    table does, or relative to this one) and has columns `vector.NAME`: lists of numbers, in CSV as JSON. Rows of clips
    that the corpus does not have are passed over, which is noted; a clip without a row has no vector.

    Raises:
        CorpusError: there is no such table, it has not these columns, or names a clip twice, or none of the corpus.
    """
    file = UPath(vectors_uri)
    if not file.exists():
        raise CorpusError(f"There is nothing at {file}: give a table of vectors.")
    problems = Problems(file)
    table = read_table(file, problems)
    there = meaning_of(table.columns, Problems(file), ("clip_id", "video"), needs_video=False).ours
    clip = "clip_id" if "clip_id" in there else "video"
    meaning = meaning_of(table.columns, problems, (clip,), needs_video=clip == "video")
    rows = VectorRows(file, meaning)
    if not rows.columns:
        problems.add("there is no column `vector.NAME`")
    refuse([problems])
    names, strangers = ClipNames(corpus.clips, UPath(corpus_uri), file), 0
    for number, cells in table.rows:
        if all(is_empty(cell) for cell in cells):
            continue
        row = TableRow(cells=cells, number=number, meaning=meaning, problems=problems)
        clip_id = names.clip_of(row, strangers=True)
        if clip_id is None:
            strangers += 1
        elif (first := rows.row_of(clip_id)) is not None:
            again = f"{shown(clip_id)} as in row {first}"
            problems.add("a clip may be there only once", row=number, column=clip, found=again)
        else:
            rows.add(clip_id, row)
    refuse([problems])
    if corpus.clips and not any(rows.row_of(clip.clip_id) is not None for clip in corpus.clips):
        raise CorpusError(f"No row of {file} names a clip of the corpus in `{clip}`: write it as the corpus has it.")
    clips, failures = rows.add_to(corpus.clips)
    known = {failure.clip_id for failure in corpus.failures}
    notes = [*corpus.notes, *table.notes]
    if strangers:
        notes.append(f"Rows of {file.name} of clips that are not in the corpus: {strangers}.")
    if lacking := sum(rows.row_of(clip.clip_id) is None for clip in clips):
        notes.append(f"Clips of which {file.name} has no row: {lacking}.")
    failures = [failure for failure in failures if failure.clip_id not in known]
    return replace(corpus, clips=tuple(clips), failures=(*corpus.failures, *failures), notes=tuple(notes))
