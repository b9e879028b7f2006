"""What the figures of a search's settings share: where values stand on an axis, names, and colours."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from twominds.recipes.space import Choice, Dimension, LogUniform, Value
from twominds.reports.search.tables import value_text
from twominds.search.outcomes import SearchResults

FINISHED_COLOR, BEST_COLOR = "#0072b2", "#d55e00"
LABEL_LENGTH = 14
"""Most letters of a value on an axis; longer ones are cut in the middle."""
LETTER_IN = 0.075
"""Width of a letter of a label, about."""
MOST_LABELS = 12
"""Values of one setting that are labelled; of more, some."""


@dataclass(frozen=True)
class Scale:
    """Where values of a setting are, from 0 to 1."""

    dimension: Dimension

    def position(self, value: Value) -> float:
        """Choices are evenly spaced, in the order of the space; numbers by themselves or by their logarithm."""
        dimension = self.dimension
        if isinstance(dimension, Choice):
            return self._even(dimension.values.index(value))
        assert not isinstance(value, str | tuple)
        low, high = float(dimension.low), float(dimension.high)
        if low == high:
            return 0.5
        if isinstance(dimension, LogUniform):
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and their labels, few enough to be read."""
        dimension = self.dimension
        if isinstance(dimension, Choice):
            step = -(-len(dimension.values) // MOST_LABELS)
            return [(self._even(i), _shortened(value)) for i, value in enumerate(dimension.values) if i % step == 0]
        low, high = dimension.low, dimension.high
        middle = math.sqrt(low * high) if isinstance(dimension, LogUniform) else (low + high) / 2
        values = dict.fromkeys([low, float(f"{middle:.2g}"), high])
        return [(self.position(value), value_text(float(value), 3)) for value in values if low <= value <= high]

    def _even(self, index: int) -> float:
        assert isinstance(self.dimension, Choice)
        number = len(self.dimension.values)
        return index / (number - 1) if number > 1 else 0.5


def score_name(results: SearchResults) -> str:
    """What an axis of scores says."""
    return f"mean − {results.std_penalty:g} × SD of MF1 (%)" if results.std_penalty else "mean MF1 (%)"


def floor_of(scores: Sequence[float]) -> float:
    """The lowest score that an axis needs to show: few that collapsed (Tukey's outer fence) would squash the rest."""
    if len(scores) < 5:
        return min(scores)
    lower, _, upper = statistics.quantiles(scores, n=4)
    fence = lower - 3 * (upper - lower)
    return min(score for score in scores if score >= fence) if upper > lower else min(scores)


def show_scores(axes: Axes, scores: Sequence[float]) -> float:
    """Sets the limits of an upright axis of scores; returns the lowest that it shows."""
    low, high = floor_of(scores), max(scores)
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - 1.5 * margin, high + margin)
    return low


def mark_lower(axes: Axes, x: Sequence[float], color: str, size: float = 20, label: str = "") -> None:
    """Points that are lower than an axis shows, as triangles at its edge."""
    if x:
        edge = axes.get_xaxis_transform()
        axes.scatter(
            x, [0.03] * len(x), s=size, marker="v", color=color, linewidths=0, transform=edge, zorder=3, label=label
        )


def broken(name: str, width: int = 11) -> str:
    """A name on several lines, broken after underscores, and within words that are too long."""
    lines = [""]
    for word in name.replace("_", "_ ").split(" "):
        pieces = [word[i : i + width] for i in range(0, len(word), width)]
        for piece in pieces:
            if len(lines[-1]) + len(piece) <= width:
                lines[-1] += piece
            else:
                lines.append(piece)
    return "\n".join(line for line in lines if line)


def jitter(number: int) -> float:
    """From -1 to 1, evenly, and the same every time; 0 for 0."""
    return 2 * ((number * 0.618034 + 0.5) % 1) - 1


def _shortened(value: Value) -> str:
    """Tuples without their brackets; of what is too long, the beginning and the end."""
    text = "·".join(str(part) for part in value) if isinstance(value, tuple) else value_text(value)
    half = LABEL_LENGTH // 2
    return text if len(text) <= LABEL_LENGTH else f"{text[: half - 1]}…{text[-half:]}"
