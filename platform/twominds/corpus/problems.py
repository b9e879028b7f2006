"""What is wrong with a file, all of it in one error: a table is mended in one go, not a row at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from upath import UPath

from twominds.errors import CorpusError

_SHOWN_ROWS = 10
_SHOWN_VALUES = 5
_SHOWN_CHARACTERS = 40


@dataclass
class _Wrong:
    """Rows, and what was found in them, each once and in the order in which they came."""

    rows: dict[int, None] = field(default_factory=dict[int, None])
    found: dict[str, None] = field(default_factory=dict[str, None])


@dataclass
class Problems:
    """Gathers the wrong rows of one file, by column and by what to do about them."""

    file: UPath
    unit: str = "row"
    """What the file's numbers count: rows or lines."""
    _wrong: dict[tuple[str, str], _Wrong] = field(default_factory=dict[tuple[str, str], _Wrong])

    def add(self, remedy: str, *, row: int | None = None, column: str = "", found: str = "") -> None:
        """Adds one; those of the same column and remedy become one sentence.

        Args:
            remedy: What is wrong or what to write instead; begins small, ends without a stop.
            row: Number of the row or line; None: no single one.
            column: Name of the column.
            found: What is there instead, as `shown` gives it.
        """
        wrong = self._wrong.setdefault((column, remedy), _Wrong())
        if row is not None:
            wrong.rows[row] = None
        if found:
            wrong.found[found] = None

    def text(self) -> str:
        """A sentence for each column and remedy, in lines below the file's name if they are several; "" for none."""
        if len(self._wrong) > 1:
            return "\n  ".join([f"{self.file} cannot be used as it is:", *self._sentences()])
        return "".join(self._sentences(str(self.file)))

    def _sentences(self, *places: str) -> Iterator[str]:
        for (column, remedy), wrong in self._wrong.items():
            rows = [numbered(self.unit, wrong.rows)] if wrong.rows else []
            where = ", ".join([*places, *rows, *([f"column `{column}`"] if column else [])])
            found = f"; found {listed(wrong.found, _SHOWN_VALUES)}" if wrong.found else ""
            yield f"{where}: {remedy}{found}." if where else f"{remedy[0].upper()}{remedy[1:]}{found}."


def refuse(problems: Iterable[Problems]) -> None:
    """Refuses files in which something is wrong.

    Raises:
        CorpusError: names each file, its rows and columns, and what to write instead.
    """
    texts = [text for one in problems if (text := one.text())]
    if texts:
        raise CorpusError("\n".join(texts))


def listed(names: Iterable[str], most: int = _SHOWN_ROWS) -> str:
    """Names as an enumeration; of very many the first, and how many more there are."""
    names = list(names)
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def numbered(unit: str, numbers: Iterable[int]) -> str:
    """Such as `row 2`, or `rows 2, 4 and 5`."""
    names = [str(number) for number in numbers]
    return f"{unit}{'s' if len(names) > 1 else ''} {listed(names)}"


def shown(value: object) -> str:
    """A value as a person recognises it in the table: in quotes, and cut where it is long."""
    text = str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")
