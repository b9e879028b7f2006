"""A table of clips: one row is one clip, by the meaning of its columns."""

from collections.abc import Sequence

from upath import UPath

from twominds.corpus.cells import is_empty, is_missing, question_of, short_text_of, split_of, text_of
from twominds.corpus.columns import Meaning, meaning_of
from twominds.corpus.fitting import LabelRequest
from twominds.corpus.places import resolve, windows_path
from twominds.corpus.problems import Problems, listed, refuse, shown
from twominds.corpus.rows import read_table
from twominds.corpus.splits import check_files, check_people
from twominds.corpus.table_rows import TableRow, add_lacking, intensity_names
from twominds.corpus.vectors import VectorRows
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure, Labels
from twominds.tasks import Intensities, Task


def read_clip_table(file: UPath, task: Task | None, *, required: bool = True) -> Corpus:
    """The corpus of a table, all of it checked before any of it is refused.

    Labels are the column `label`, or for intensities one column for each, by its name. Vectors that models of the user
    made are columns `vector.NAME` (see `vectors`).

    Args:
        file: The table: CSV, Parquet or JSON lines.
        task: What the labels are to say; None: they are not looked at.
        required: Whether labels for another task are refused (see `LabelRequest`).

    Raises:
        CorpusError: rows or columns are wrong, or labels are not those that are wanted; names all of them, and what to
            write instead.
    """
    problems = Problems(file)
    table = read_table(file, problems)
    if not table.rows:
        refuse([problems])
        raise CorpusError(f"{file} has no rows.")
    meaning = meaning_of(table.columns, problems, outputs=intensity_names(task))
    notes = list(table.notes)
    request = LabelRequest(task=task, required=required)
    task = _labelled_task(meaning, table.rows, request, notes, problems)
    clips: dict[str, tuple[int, Clip]] = {}
    vectors = VectorRows(file, meaning)
    failures: list[Failure] = []
    empty_rows = 0
    for number, cells in table.rows:
        if all(is_empty(cell) for cell in cells):
            empty_rows += 1
            continue
        row = TableRow(cells=cells, number=number, meaning=meaning, problems=problems)
        found = _read_clip(row, task)
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
        vectors.add(clip.clip_id, row)
        if failure:
            failures.append(Failure(clip_id=clip.clip_id, stage="corpus", reason=failure))
    numbered = list(clips.values())
    notes += [*check_people(numbered, problems), *check_files(numbered, problems)]
    refuse([problems])
    if not clips:
        raise CorpusError(f"{file} has no rows.")
    if empty_rows:
        notes.append(f"Rows passed over, since they are empty: {empty_rows}.")
    if meaning.attributes:
        kept = listed(f"`{name}`" for name in meaning.attributes)
        notes.append(f"Columns kept as attributes, which are for reports alone: {kept}.")
    known = {failure.clip_id for failure in failures}
    with_vectors, useless = vectors.add_to([clip for _, clip in numbered])
    failures += [failure for failure in useless if failure.clip_id not in known]
    return Corpus(clips=tuple(with_vectors), failures=tuple(failures), notes=tuple(notes))


def _labelled_task(
    meaning: Meaning,
    rows: Sequence[tuple[int, Sequence[object]]],
    request: LabelRequest,
    notes: list[str],
    problems: Problems,
) -> Task | None:
    """The task for which the table has labels: the one that is asked for, or None."""
    task = request.task
    if task is None:
        return None
    names = [name for name in ("label", *intensity_names(task)) if name in meaning.ours]
    named = [name for name in names if any(not is_empty(cells[meaning.ours[name]]) for _, cells in rows)]
    if named and task.per_frame:
        remedy = "Give those of its segments or frames as a second table (`--labels`)."
        request.misfit(f"{problems.file} has labels of whole clips ({listed(f'`{n}`' for n in named)})", notes, remedy)
        return None
    if "label" in named and isinstance(task.output, Intensities):
        remedy = "Write one column for each, by its name."
        request.misfit(f"{problems.file} has one label for each clip (`label`)", notes, remedy)
    add_lacking(meaning, task, problems)
    return task


def _read_clip(row: TableRow, task: Task | None) -> tuple[Clip, str] | None:
    """A row's clip, and why it is of no use ("": as far as can be seen it is of use); None where no video is named."""
    if is_empty(row.cell("video")):
        row.problems.add("name the file of the video", row=row.number, column="video")
        return None
    table, video = row.problems.file, row.read("video", short_text_of)
    if video is None:
        return None
    uri, values = resolve(table, video), None if task is None else row.labels(task)
    clip = Clip(
        clip_id=row.read("clip_id", short_text_of) or video,
        video_uri=uri,
        split=row.read("split", split_of),
        labels=None if values is None else Labels.of_clip(*values),
        transcript=row.read("transcript", text_of, is_nothing=is_missing),
        participant_id=row.read("participant", short_text_of),
        question=row.read("question", question_of),
        attributes=row.attributes(),
    )
    return clip, windows_path(table, video, uri)
