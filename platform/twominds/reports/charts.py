"""What the figures of reports have in common: style, bars with intervals, rows from top to bottom, and the SVG.

Colours are Okabe and Ito's, which the colour-blind tell apart, and differ in lightness too, for print.
"""

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twominds.records import Split
from twominds.training.bootstrap import Estimate

COLORS = {Split.VALIDATION: "#e69f00", Split.TEST: "#0072b2"}
NAMES = {Split.VALIDATION: "validation", Split.TEST: "test"}
PAPER = "#d55e00"
CLASSES = ("#56b4e9", "#d55e00")
"""Without and with the last of two classes."""
MANY = ("#999999", "#d55e00", "#009e73", "#000000", "#e69f00", "#0072b2", "#cc79a7", "#56b4e9", "#f0e442")
"""Of more classes, or of several outputs."""
WIDTH_IN = 6.2
"""Narrow, so that letters can be read on a phone."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "twominds",
    "text.parse_math": False,  # a dollar sign in a name is one
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of the report."""

    name: str
    title: str
    alt: str
    """What it says, for who cannot see it."""
    caption: str
    svg: bytes

    @property
    def uri(self) -> str:
        """The image itself, as a page names it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


def chart(rows: int, row_in: float) -> tuple[Figure, Axes]:
    """An empty figure for `rows` rows of a height in inches."""
    figure = Figure(figsize=(WIDTH_IN, row_in * rows + 1.1))
    return figure, figure.subplots()


def draw_bars(axes: Axes, marks: Sequence[tuple[float, Estimate]], split: Split, thickness: float) -> None:
    """Scores as bars, with their intervals."""
    y = [at for at, _ in marks]
    axes.barh(y, [100 * score.value for _, score in marks], height=thickness, color=COLORS[split], label=NAMES[split])
    sure = [(at, 100 * score.interval[0], 100 * score.interval[1]) for at, score in marks if score.interval]
    if sure:
        at, low, high = zip(*sure, strict=True)
        axes.hlines(at, low, high, color="white", linewidth=2.8, zorder=3)  # so that the line shows on its bar
        axes.hlines(at, low, high, color="#111111", linewidth=1.2, zorder=3)


def offsets(splits: Sequence[Split]) -> dict[Split, float]:
    """Where each split's mark is, from the middle of its row."""
    return {splits[0]: 0.0} if len(splits) == 1 else {split: -0.2 + 0.4 * i for i, split in enumerate(splits)}


def thickness(splits: Sequence[Split]) -> float:
    """How thick each split's bar in a row is."""
    return 0.7 if len(splits) == 1 else 0.38


def finish(axes: Axes, labels: Sequence[str], x_label: str) -> None:
    """Rows from top to bottom, under their names."""
    axes.set_yticks(range(len(labels)), labels, fontsize=8.5, linespacing=1.05)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd")
    axes.set_xlabel(x_label)


def legend(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)


def wrapped(text: str, width: int) -> str:
    """All of a name, on as many lines as it takes: names often differ only in their end."""
    return "\n".join(textwrap.wrap(text, width))


def plot_of(name: str, title: str, alt: str, caption: str, figure: Figure) -> Plot:
    """The finished figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(name=name, title=title, alt=alt, caption=caption, svg=buffer.getvalue())
