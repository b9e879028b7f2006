"""All settings of a search in one figure: parallel coordinates."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twominds.recipes.space import Choice
from twominds.reports.charts import WIDTH_IN, Plot, plot_of
from twominds.reports.search.scales import BEST_COLOR, LETTER_IN, Scale, broken, floor_of, jitter, score_name
from twominds.reports.search.tables import number_of, value_text
from twominds.search.outcomes import Outcome, SearchResults

COLORMAP = "viridis_r"
"""Good ones are dark: on white they show."""
ENDED_COLOR = "#bbbbbb"


def draw_parallel(results: SearchResults) -> list[Plot]:
    """A line per candidate through its settings, over as many rows of axes as there is room for."""
    drawn = [outcome for outcome in results.outcomes if outcome.status != "failed"]
    if not results.space or not drawn:
        return []
    best_first = results.finished
    scales = {name: Scale(dimension) for name, dimension in results.space.items()}
    rows = _in_rows(list(scales), scales)
    figure = Figure(figsize=(WIDTH_IN, 2.9 * len(rows) + 0.9))
    panels = [*figure.subplots(len(rows), 1, squeeze=False).flat]
    scores = [100 * outcome.score(results.std_penalty) for outcome in best_first]
    low = floor_of(scores) if scores else 0.0
    norm = _score_norm(scores)
    for axes, names in zip(panels, rows, strict=True):
        _parallel_panel(axes, {name: scales[name] for name in names}, results, norm)
    handles: list[Line2D] = []
    if best_first:
        handles.append(Line2D([], [], color=BEST_COLOR, linewidth=3, label="the best"))
    if len({*scores}) > 1:
        mappable = ScalarMappable(norm, _colormap())
        extend = "min" if min(scores) < low else "neither"
        bar = figure.colorbar(mappable, ax=panels, location="top", shrink=0.6, aspect=40, extend=extend, pad=0.03)
        bar.set_label(score_name(results), fontsize=8.5)
    if any(outcome.status == "ended" for outcome in drawn):
        handles.append(Line2D([], [], color=ENDED_COLOR, linewidth=1, label="ended early (no score)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    caption = (
        "Each line is a candidate, each upright axis a setting; the last axis of each row is the score, which only "
        "candidates with every seed have. The darker, the better. Values of a choice are spread a little, so that "
        "lines do not hide each other; logarithmic ranges have logarithmic axes."
    )
    if scores and min(scores) < low:
        caption += f" Scores below {low:.1f} stand at the lower end of their axis."
    told = f"{len(best_first)} candidates with a score, {len(drawn) - len(best_first)} ended early"
    if best_first:
        best = best_first[0]
        told += f". The best is candidate {number_of(best, results)}: " + ", ".join(
            f"{name} {value_text(best.candidate[name])}" for name in scales
        )
    return [plot_of("parallel", "All settings at once", f"Parallel coordinates of {told}.", caption, figure)]


def _parallel_panel(axes: Axes, scales: dict[str, Scale], results: SearchResults, norm: Normalize) -> None:
    finished, at = results.finished, len(scales)
    scores = [100 * outcome.score(results.std_penalty) for outcome in finished]
    low, high = (floor_of(scores), max(scores)) if scores else (0.0, 0.0)
    grey = [_line(o, i, scales) for i, o in enumerate(results.outcomes) if o.status == "ended"]
    axes.add_collection(LineCollection(grey, colors=ENDED_COLOR, linewidths=0.6, alpha=0.8, zorder=1))
    colormap = _colormap()
    heights = [max(0.0, score - low) / (high - low) if high > low else 0.5 for score in scores]
    for place in range(len(finished) - 1, -1, -1):  # the best on top
        outcome = finished[place]
        points = [*_line(outcome, number_of(outcome, results), scales), (at, heights[place])]
        x, y = [x for x, _ in points], [y for _, y in points]
        if place:
            axes.plot(x, y, color=colormap(norm(scores[place])), linewidth=0.9, alpha=0.85, zorder=2)
        else:
            casing = [patheffects.Stroke(linewidth=4.5, foreground="white"), patheffects.Normal()]
            axes.plot(x, y, color=BEST_COLOR, linewidth=2.6, zorder=3, path_effects=casing)
    ticks = {i: [(_height(scale, y), text) for y, text in scale.ticks] for i, scale in enumerate(scales.values())}
    if scores:
        lowest = f"{'≤ ' if min(scores) < low else ''}{low:.1f}"
        ticks[at] = [(0.5, lowest)] if high == low else [(0.0, lowest), (1.0, f"{high:.1f}")]
    axes.vlines([*ticks], 0, 1, color="black", linewidth=0.9, zorder=4)
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6}
    for i, labels in ticks.items():
        axes.plot([i] * len(labels), [y for y, _ in labels], "_", color="black", markersize=5, zorder=4)
        for y, text in labels:
            axes.annotate(
                text, (i, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5, bbox=box, zorder=5
            )
    titles = [*(broken(name) for name in scales), *(["score\n(%)"] if scores else [])]
    for i, title in enumerate(titles):
        axes.annotate(
            title, (i, 1), (0, 8), textcoords="offset points", ha="center", va="bottom", fontsize=8, linespacing=1.0
        )
    axes.set_xlim(-0.35, len(titles) - 0.55)
    axes.set_ylim(-0.1, 1.03)
    axes.set_axis_off()


def _line(outcome: Outcome, number: int, scales: dict[str, Scale]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for i, (name, scale) in enumerate(scales.items()):
        y = _height(scale, scale.position(outcome.candidate[name]))
        if isinstance(scale.dimension, Choice):
            y += 0.3 * jitter(number) / max(len(scale.dimension.values), 8)
        points.append((i, y))
    return points


def _height(scale: Scale, position: float) -> float:
    """Choices begin and end a little inside their axis, which leaves room to spread them."""
    return 0.04 + 0.92 * position if isinstance(scale.dimension, Choice) else position


def _in_rows(names: Sequence[str], scales: dict[str, Scale]) -> list[list[str]]:
    """As many settings per row of axes as their labels leave room for, evenly shared."""
    labels = [text for scale in scales.values() for _, text in scale.ticks]
    words = [line for name in names for line in broken(name).splitlines()]
    widest_in = max(0.8, 0.2 + LETTER_IN * max(len(text) for text in [*labels, *words]))
    most = max(1, int(WIDTH_IN / widest_in) - 1)
    rows = -(-len(names) // most)
    bounds = [len(names) * i // rows for i in range(rows + 1)]
    return [list(names[start:end]) for start, end in pairwise(bounds)]


def _score_norm(scores: Sequence[float]) -> Normalize:
    """Colours for scores in percent, without those that collapsed, which would take up the colours of the rest."""
    if not scores:
        return Normalize(0, 1)
    low, high = floor_of(scores), max(scores)
    return Normalize(low, high) if high > low else Normalize(low - 1, high)


def _colormap() -> Colormap:
    return mpl.colormaps[COLORMAP]
