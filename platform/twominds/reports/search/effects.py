"""The settings of a search one by one: what the score is beside each."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twominds.recipes.space import Choice, Value
from twominds.reports.charts import WIDTH_IN, Plot, plot_of
from twominds.reports.search.scales import (
    BEST_COLOR,
    FINISHED_COLOR,
    LETTER_IN,
    Scale,
    broken,
    floor_of,
    jitter,
    mark_lower,
    score_name,
    show_scores,
)
from twominds.reports.search.tables import value_text
from twominds.search.outcomes import SearchResults

COLUMNS = 2
"""Settings side by side."""

Point = tuple[Value, float]
"""What a candidate has of a setting, and its score in percent."""


def draw_effects(results: SearchResults) -> list[Plot]:
    """The score against each setting; none where no candidate has a score."""
    finished = results.finished
    if not finished or not results.space:
        return []
    scales = {name: Scale(dimension) for name, dimension in results.space.items()}
    columns = min(COLUMNS, len(scales))
    lines = -(-len(scales) // columns)
    figure = Figure(figsize=(WIDTH_IN, 1.95 * lines + 0.5))
    panels = [*figure.subplots(lines, columns, squeeze=False, sharey=True).flat]
    told: list[str] = []
    low = floor_of([100 * outcome.score(results.std_penalty) for outcome in finished])
    for number, (axes, (name, scale)) in enumerate(zip(panels, scales.items(), strict=False)):
        points = [(o.candidate[name], 100 * o.score(results.std_penalty)) for o in finished]
        shown, lower = [p for p in points if p[1] >= low], [p for p in points if p[1] < low]
        _effect_panel(axes, scale, shown, lower)
        axes.set_title(broken(name, 26), fontsize=8.5, fontweight="bold")
        if number % columns == 0:
            axes.set_ylabel("score (%)")
        told.append(f"{name}: {_told(scale, shown)}")
    for axes in panels[len(scales) :]:
        axes.set_axis_off()
    caption = (
        f"The score ({score_name(results)}) of candidates with every seed against each setting by itself; vermilion: "
        "the best candidate. Choices: the black lines are means. Ranges: the black line is a running mean. Such "
        "effects are marginal: the other settings vary along, and a sampler that learns does not choose them "
        "independently, so a value that was tried more often may only have had better company."
    )
    if collapsed := sum(100 * outcome.score(results.std_penalty) < low for outcome in finished):
        caption += f" Triangles at the lower edge: {collapsed} with less than {low:.1f} %, which the means leave out."
    alt = f"Mean score in percent by setting. {'; '.join(told)}."
    return [plot_of("effects", "One setting at a time", alt, caption, figure)]


def _effect_panel(axes: Axes, scale: Scale, shown: Sequence[Point], lower: Sequence[Point]) -> None:
    """The first point that is shown is the best candidate's."""
    choice = scale.dimension if isinstance(scale.dimension, Choice) else None
    spread = 0.4 / len(choice.values) if choice else 0.0
    x, of_lower = (
        [scale.position(value) + spread * jitter(i) for i, (value, _) in enumerate(points)] for points in (shown, lower)
    )
    y = [score for _, score in shown]
    axes.scatter(x[1:], y[1:], s=12, color=FINISHED_COLOR, alpha=0.55, linewidths=0)
    show_scores(axes, y)
    mark_lower(axes, of_lower, FINISHED_COLOR)
    axes.scatter(x[:1], y[:1], s=30, color=BEST_COLOR, edgecolors="white", linewidths=0.6, zorder=4)
    if choice:
        for value, mean, _ in _means(choice, shown):
            at = scale.position(value)
            half = 0.32 / len(choice.values)
            axes.hlines(mean, at - half, at + half, color="black", linewidth=1.6, zorder=3)
    else:
        axes.plot(*_running_mean(x, y), color="black", linewidth=1.4, zorder=3)
    ticks = scale.ticks
    rotated = sum(len(text) + 1 for _, text in ticks) * LETTER_IN > WIDTH_IN / COLUMNS - 0.6
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks], rotation=90 if rotated else 0, fontsize=7.5)
    axes.tick_params(axis="y", labelsize=7.5)
    margin = 0.5 / len(choice.values) if choice else 0.06
    axes.set_xlim(-margin, 1 + margin)
    axes.grid(axis="y", color="#dddddd")


def _means(choice: Choice, points: Sequence[Point]) -> list[tuple[Value, float, int]]:
    """The values that were tried, with their mean score and how many candidates had them."""
    found = [(value, [score for other, score in points if other == value]) for value in choice.values]
    return [(value, statistics.fmean(scores), len(scores)) for value, scores in found if scores]


def _running_mean(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Over a quarter of the points at a time, but at least five; empty where there are fewer than ten."""
    points = sorted(zip(x, y, strict=True))
    width = max(5, len(points) // 4)
    if len(points) < 10:
        return [], []
    windows = [points[i : i + width] for i in range(len(points) - width + 1)]
    return (
        [statistics.fmean(x for x, _ in window) for window in windows],
        [statistics.fmean(y for _, y in window) for window in windows],
    )


def _told(scale: Scale, points: Sequence[Point]) -> str:
    if isinstance(scale.dimension, Choice):
        means = _means(scale.dimension, points)
        return ", ".join(f"{value_text(value)} {mean:.2f} ({number})" for value, mean, number in means)
    ordered = [score for _, score in sorted((scale.position(value), score) for value, score in points)]
    half = len(ordered) // 2
    if not half:
        return f"{ordered[0]:.2f} (1)"
    return f"lower half {statistics.fmean(ordered[:half]):.2f}, upper half {statistics.fmean(ordered[half:]):.2f}"
