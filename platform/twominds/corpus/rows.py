"""The rows of a table, whatever program wrote it: CSV with any usual separator, JSON lines, Parquet."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from upath import UPath

from twominds.corpus.columns import VECTOR, our_name
from twominds.corpus.places import local_path
from twominds.corpus.problems import Problems, listed, refuse, shown
from twominds.corpus.text_files import check_decoded, decode, is_decoded, numbered_lines, whole_characters
from twominds.errors import CorpusError

_SEPARATORS = ",;\t|"
_HINT = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""Excel's own first line."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it was read, before its columns mean anything."""

    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[object]]]
    """The number by which a person finds the row, and one cell per column."""
    notes: Sequence[str] = ()


def read_table(file: UPath, problems: Problems) -> Table:
    """Reads a table; adds rows and columns that make no sense to `problems`.

    Raises:
        CorpusError: it is no such table, or is in an encoding that cannot be known; names the file and the row.
    """
    suffix = file.suffix.lower()
    if suffix in READERS:
        return READERS[suffix](file, problems)
    raise CorpusError(
        f"{file} is neither a video nor a table that can be read ({', '.join(READERS)})."
        f"{_SAVE_AS.get(suffix, ' Save the table as CSV UTF-8.')}"
    )


def _csv(file: UPath, problems: Problems) -> Table:
    text = decode(file)
    hint = _HINT.match(text)
    lines = io.StringIO(text[hint.end() :] if hint else text, newline="")
    separator = hint[1] if hint else _separator(text)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        records = [(number, record) for number, record in enumerate(reader, start=2 if hint else 1) if record]
    except csv.Error as error:
        line = reader.line_num + (1 if hint else 0)
        raise CorpusError(f"{file}, line {line}: {error} (is a quotation mark missing, or one too many?).") from error
    if not records:
        raise CorpusError(f"{file} has no rows.")
    (header_number, columns), *records = records
    check_decoded(separator.join(columns), f"{file}, row {header_number}")
    rows: list[tuple[int, list[str | None]]] = []
    for number, record in records:
        for index, cell in enumerate(record):
            name = columns[index] if index < len(columns) else index + 1
            check_decoded(cell, f"{file}, row {number}, column `{name}`")
        if any(cell.strip() for cell in record[len(columns) :]):
            problems.add(
                f"more cells than the header has columns (quote cells with a `{separator}` in them)", row=number
            )
        cells = [cell or None for cell in record[: len(columns)]]
        rows.append((number, [*cells, *[None] * (len(columns) - len(cells))]))
    kept = [index for index, name in enumerate(columns) if name.strip()]
    for index in range(len(columns)):
        if index not in kept and not _may_be_passed_over(index, [cells[index] for _, cells in rows]):
            problems.add(f"column {index + 1} has no name: name it in the first row, or delete it")
    return Table(
        columns=[columns[index] for index in kept],
        rows=[(number, [cells[index] for index in kept]) for number, cells in rows],
    )


def _separator(text: str) -> str:
    """The one that makes `video` a column of the header; without any, the one that makes most columns."""

    def columns(separator: str) -> tuple[bool, int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        header = next((record for record in reader if record), list[str]())
        return "video" in map(our_name, header), len(header)

    return max(_SEPARATORS, key=columns)


def _may_be_passed_over(column: int, cells: Sequence[str | None]) -> bool:
    """Whether a column without a name is empty, or the first one and numbers the rows, as pandas does."""
    found = [cell.strip() for cell in cells if cell and cell.strip()]
    return not found or (column == 0 and all(cell.isdigit() for cell in found) and len(set(found)) == len(found))


def _json_lines(file: UPath, problems: Problems) -> Table:
    found: list[tuple[int, Mapping[str, object]]] = []
    for number, line in numbered_lines(decode(file)):
        try:
            row: object = json.loads(line, strict=False, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            problems.add(f"expected a JSON object on one line ({reason})", row=number)
            continue
        if not isinstance(row, dict):
            problems.add("expected a JSON object", row=number)
            continue
        cells = cast("dict[str, object]", row)
        if not is_decoded(line):
            _refuse_undecoded(cells, line, f"{file}, row {number}")
        found.append((number, {whole_characters(name): cell for name, cell in cells.items()}))
    columns = list(dict.fromkeys(name for _, row in found for name in row))
    return Table(columns=columns, rows=[(number, [row.get(name) for name in columns]) for number, row in found])


def _refuse_undecoded(cells: Mapping[str, object], line: str, where: str) -> None:
    for name, cell in cells.items():
        if isinstance(cell, str):
            check_decoded(cell, f"{where}, column `{name}`")
    check_decoded(line, where)


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("it names something twice")
    return names


def _parquet(file: UPath, problems: Problems) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow: Any = pa
    parquet: Any = pq
    path = local_path(str(file))
    try:
        # Arrow's own files: one of Python's could be closed by Arrow's threads after the interpreter's end.
        with arrow.BufferReader(file.read_bytes()) if path is None else arrow.memory_map(path) as source:
            opened = parquet.ParquetFile(source)
            fields = list(opened.schema_arrow)
            passed_over = [field.name for field in fields if not _is_readable(field, arrow.types, problems)]
            refuse([problems])
            names = [field.name for field in fields if field.name not in passed_over]
            table = opened.read(columns=names)
            columns = [_cells(name, table.column(name), arrow) for name in table.column_names]
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(". ")
        raise CorpusError(f"{file} is no Parquet table that can be read: {reason}.") from error
    note = f"Columns passed over, since they hold bytes: {listed(f'`{name}`' for name in passed_over)}."
    return Table(
        columns=[str(name) for name in table.column_names],
        rows=list(enumerate(zip(*columns, strict=True), start=1)),
        notes=(note,) if passed_over else (),
    )


def _is_readable(field: Any, types: Any, problems: Problems) -> bool:
    """Whether a column can be read: not bytes, nor what is nested where we want text; the latter is a problem."""
    holds_bytes = _holds_bytes(field.type, types)
    if our_name(field.name) and (holds_bytes or types.is_nested(field.type)):
        remedy = "write text or numbers"
        if types.is_struct(field.type) and field.type.get_field_index("path") >= 0:
            remedy = "write its `path` as a column of text (Hugging Face's `Video` holds the file's bytes and its path)"
        problems.add(remedy, column=field.name, found=shown(field.type))
    return not holds_bytes


def _holds_bytes(kind: Any, types: Any) -> bool:
    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type, types)
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    is_binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in is_binary) or any(_holds_bytes(part, types) for part in parts)


def _cells(name: str, column: Any, arrow: Any) -> list[object]:
    """A column's cells; lists of vectors as arrays, a tenth of the memory that Python's numbers take."""
    types, kind = arrow.types, column.type
    are_lists = any(test(kind) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list))
    are_vectors = name.strip().casefold().startswith(VECTOR) and are_lists
    if are_vectors and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return [cell.values.to_numpy(zero_copy_only=False) if cell.is_valid else None for cell in column]
    return _as_plain(column, arrow)


def _as_plain(column: Any, arrow: Any) -> list[object]:
    """A column's cells; times as text, since Python's have no nanoseconds."""
    return (column.cast(arrow.string()) if arrow.types.is_temporal(column.type) else column).to_pylist()


READERS: Mapping[str, Callable[[UPath, Problems], Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
_SAVE_AS = {
    ".json": " Write one JSON object on each line of a .jsonl file (pandas: to_json(orient='records', lines=True)).",
    ".gz": " Unpack it first.",
    ".zip": " Unpack it first.",
}
