"""The rows of a table by the meaning of its columns: cells that are read, or that become a problem."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from twominds.corpus.cells import attribute_of, intensity_of, is_empty, label_of
from twominds.corpus.columns import Meaning
from twominds.corpus.problems import Problems, listed, shown
from twominds.tasks import Intensities, Task

_T = TypeVar("_T")


def intensity_names(task: Task | None) -> tuple[str, ...]:
    """The columns that hold a label of several intensities."""
    return task.names if task is not None and isinstance(task.output, Intensities) else ()


def add_lacking(meaning: Meaning, task: Task, problems: Problems) -> None:
    """Adds the intensities for which a table has no column to `problems`, where it has columns for others."""
    names = intensity_names(task)
    lacking = [name for name in names if name not in meaning.ours]
    if lacking and len(lacking) < len(names):
        problems.add(f"there is no column {listed(f'`{name}`' for name in lacking)}: add what is missing")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row's cells by our names; what cannot be read becomes a problem, and is absent."""

    cells: Sequence[object]
    number: int
    """By which a person finds the row."""
    meaning: Meaning
    problems: Problems

    def cell(self, column: str) -> object:
        """The cell of one of our columns; None where the table lacks it."""
        index = self.meaning.ours.get(column)
        return None if index is None else self.cells[index]

    def read(
        self, column: str, reader: Callable[[object], _T], *, is_nothing: Callable[[object], bool] = is_empty
    ) -> _T | None:
        """What a cell says; None where it is empty, or says nothing that can be read."""
        cell = self.cell(column)
        if is_nothing(cell):
            return None
        try:
            return reader(cell)
        except ValueError as error:
            found = shown(cell) if isinstance(cell, str | int | float) else ""
            self.problems.add(str(error), row=self.number, column=column, found=found)
            return None

    def labels(self, task: Task) -> tuple[float, ...] | None:
        """What the row says of the task: a class's index, or intensities; None where it says nothing, or nonsense."""
        output = task.output
        if not isinstance(output, Intensities):
            label = self.read("label", lambda cell: label_of(cell, task))
            return None if label is None else (label,)
        values = [self.read(name, partial(intensity_of, output=output)) for name in output.names]
        found = [value for value in values if value is not None]
        if len(found) == len(values):
            return tuple(found)
        empty = [name for name in output.names if name in self.meaning.ours and is_empty(self.cell(name))]
        if empty and len(empty) < len(values):
            self.problems.add("write all intensities of a row, or none", row=self.number, column=empty[0])
        return None

    def attributes(self) -> dict[str, str]:
        """The cells of the other columns, as text."""
        cells = {name: attribute_of(self.cells[index]) for name, index in self.meaning.attributes.items()}
        return {name: text for name, text in cells.items() if text}
