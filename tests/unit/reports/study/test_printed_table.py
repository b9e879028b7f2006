"""The table that `evaluate` prints, on a terminal of 80 columns."""

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from tests.unit.reports.study.test_report import RESULTS, TEST_MF1

from twominds.reports.study.report import write_report


def printed(named: dict[str, str], folder: Path) -> str:
    """What a terminal of 80 columns shows of the report with rows of other names."""
    rows = tuple(replace(row, recipe=named.get(row.recipe, row.recipe)) for row in RESULTS.rows)
    console = Console(width=80, file=io.StringIO(), record=True)
    write_report(replace(RESULTS, rows=rows, headline=named["r/3"]), str(folder)).show(console)
    return console.export_text()


def test_eighty_columns_tell_the_rows_of_one_system_apart(tmp_path: Path) -> None:
    ends = {"r/1": "face", "r/2": "windows-5", "r/3": "window-words"}
    shown = printed({old: f"conflict-aware/demo/{end}" for old, end in ends.items()}, tmp_path)
    assert "of conflict-aware/demo\n" in re.sub(" +\n", "\n", shown)
    for name in ("majority", *ends.values()):
        assert re.search(rf"^│ {name} ", shown, re.MULTILINE), shown
    assert "…" not in shown, "numbers are whole, too"


def test_eighty_columns_fold_long_names_and_leave_numbers_whole(tmp_path: Path) -> None:
    names = {"r/1": "hsemotion/demo/ah-video/mfn-features", "r/2": "leya/demo", "r/3": "conflict-aware/demo/ensemble"}
    shown = printed(names, tmp_path)
    columns = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    assert "".join(cells[0] for cells in columns) == "majority" + "".join(names.values())
    assert "…" not in shown
    for number in ("65.29", "60.05", "85.38", "79.94", f"{100 * TEST_MF1:.1f} [0.0, 86.7]", "0 / 1"):
        assert any(number in cell for cells in columns for cell in cells), shown
