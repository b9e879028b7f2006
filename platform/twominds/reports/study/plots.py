"""The figures of a study's report, as SVG: the same scores give the same bytes."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twominds.records import Split
from twominds.reports.charts import (
    COLORS,
    NAMES,
    PAPER,
    STYLE,
    WIDTH_IN,
    Plot,
    chart,
    draw_bars,
    finish,
    legend,
    offsets,
    plot_of,
    thickness,
    wrapped,
)
from twominds.reports.study.class_plots import confusions, reliability_diagrams
from twominds.reports.study.contribution_plots import contribution_bars
from twominds.reports.study.groups import GROUPINGS, GroupScore
from twominds.reports.study.metric_words import MetricWords, words
from twominds.reports.study.scores import DropScore, RowScore, StudyScores
from twominds.reports.study.timeline_plots import timelines
from twominds.training.bootstrap import Estimate


def draw_plots(scores: StudyScores) -> list[Plot]:
    """Every figure that the results have something for, in the order of the report."""
    with mpl.rc_context(STYLE):
        return [plot for draw in _FIGURES for plot in draw(scores)]


def _rows(scores: StudyScores) -> list[Plot]:
    rows, metric = scores.rows, words(scores.task.metric)
    figure, axes = chart(len(rows), 0.4)
    for split, offset in offsets(scores.splits).items():
        at = [(i + offset, row) for i, row in enumerate(rows) if split in row.splits]
        draw_bars(axes, [(y, row.splits[split].score) for y, row in at], split, thickness(scores.splits))
        paper = [(found, y) for y, row in at if (found := _published(row, split)) is not None]
        axes.scatter(
            [x for x, _ in paper],
            [y for _, y in paper],
            marker="D",
            s=18,
            color=PAPER,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
            label="the paper's number" if paper and split == scores.splits[0] else None,
        )
    baselines = [
        row.splits[scores.shown].score.value for row in rows if _is_baseline(row) and scores.shown in row.splits
    ]
    if baselines:
        label = f"best baseline ({NAMES[scores.shown]})"
        axes.axvline(100 * max(baselines), color="black", linestyle=":", linewidth=1, label=label)
    for i, (row, following) in enumerate(pairwise(rows)):
        if row.section != following.section:
            axes.axhline(i + 0.5, color="#bbbbbb", linewidth=0.8)
    finish(axes, [_row_label(row) for row in rows], metric.axis)
    _span(axes, [found.score for row in rows for found in row.splits.values()])
    legend(figure, axes)
    told = "; ".join(
        f"{row.row.recipe} {', '.join(f'{NAMES[s]} {_percent(row.splits[s].score)}' for s in row.splits)}"
        for row in rows
    )
    caption = "Thin lines: 95 % CI over people."
    if any(row.row.published for row in rows):
        caption += " Diamonds: what the paper prints."
    if baselines:
        caption += " Dotted: the best baseline, which sees no video."
    return [plot_of("rows", f"{metric.title} of every row", f"{metric.title} {metric.unit}: {told}.", caption, figure)]


def _seeds(scores: StudyScores) -> list[Plot]:
    rows = [row for row in scores.rows if any(len(found.by_model) > 1 for found in row.splits.values())]
    if not rows:
        return []
    metric = words(scores.task.metric)
    figure, axes = chart(len(rows), 0.36)
    for split, offset in offsets(scores.splits).items():
        found = [(i + offset / 1.3, row.splits[split]) for i, row in enumerate(rows) if split in row.splits]
        dots = [(100 * value, y) for y, score in found for value in score.by_model]
        axes.scatter(
            [x for x, _ in dots],
            [y for _, y in dots],
            s=16,
            marker="s" if split is Split.VALIDATION else "o",
            color=COLORS[split],
            alpha=0.8,
            linewidths=0,
            label=f"one seed, {NAMES[split]}",
        )
        means = [100 * score.score.value for _, score in found]
        axes.scatter(means, [y for y, _ in found], s=70, marker="|", color="black", linewidths=1.3, zorder=3)
    axes.grid(axis="y", color="#eeeeee")
    finish(axes, [_row_label(row) for row in rows], metric.axis)
    legend(figure, axes)
    told = "; ".join(
        f"{row.row.recipe} {', '.join(f'{NAMES[s]} {100 * row.splits[s].spread:.2f}' for s in row.splits)}"
        for row in rows
    )
    alt = f"Standard deviation of {metric.long} over the seeds, in {metric.points}: {told}."
    caption = "Each dot is the model of one seed; the upright line is their mean."
    return [plot_of("seeds", "Spread over the seeds", alt, caption, figure)]


def _groups(scores: StudyScores) -> list[Plot]:
    """One figure for the questions, one for the participants' attributes."""
    metric = words(scores.task.metric)
    by_person = [name for name in GROUPINGS if name != "question"]
    figures = [
        ("questions", f"{metric.title} per question", ["question"]),
        ("people", f"{metric.title} per gender, age range and ethnicity", by_person),
    ]
    return [
        plot for name, title, groupings in figures for plot in _group_figure(scores, name, title, groupings, metric)
    ]


def _group_figure(
    scores: StudyScores, name: str, title: str, groupings: Sequence[str], metric: MetricWords
) -> list[Plot]:
    found = {grouping: _by_group(scores.groups, grouping) for grouping in groupings}
    found = {grouping: by_group for grouping, by_group in found.items() if by_group}
    if not found:
        return []
    sizes = [len(by_group) for by_group in found.values()]
    figure = Figure(figsize=(WIDTH_IN, 0.42 * sum(sizes) + 0.35 * len(sizes) + 0.9))
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=[n + 0.5 for n in sizes], sharex=True)[:, 0]
    for axes, (grouping, by_group) in zip(panels, found.items(), strict=True):
        for split, offset in offsets(scores.splits).items():
            at = [
                (i + offset, by_split[split].score) for i, by_split in enumerate(by_group.values()) if split in by_split
            ]
            draw_bars(axes, at, split, thickness(scores.splits))
        overall = scores.headline.splits.get(scores.shown)
        if overall:
            label = f"all clips ({NAMES[scores.shown]})"
            axes.axvline(100 * overall.score.value, color="black", linestyle=":", linewidth=1, label=label)
        finish(axes, [_group_label(group, by_split) for group, by_split in by_group.items()], "")
        axes.set_title(grouping, loc="left", fontsize=9, fontweight="bold")
    _span(panels[0], [score.score for score in scores.groups if score.grouping in found])
    panels[-1].set_xlabel(metric.axis)
    legend(figure, panels[0])
    told = "; ".join(
        f"{score.grouping} {score.group} {NAMES[score.split]} {_percent(score.score)} ({score.clips} clips)"
        for score in scores.groups
        if score.grouping in found
    )
    counted = " / ".join(NAMES[split] for split in scores.splits)
    caption = (
        f"{scores.results.headline}: thin lines are 95 % CI over the group's people; n is the number of clips "
        f"({counted}). * few clips, few people or a class missing (see the table): do not read much into these."
    )
    return [plot_of(name, title, f"{title} {metric.unit}: {told}.", caption, figure)]


def _by_group(groups: Sequence[GroupScore], grouping: str) -> dict[str, dict[Split, GroupScore]]:
    found: dict[str, dict[Split, GroupScore]] = {}
    for score in sorted((score for score in groups if score.grouping == grouping), key=lambda score: score.group):
        found.setdefault(score.group, {})[score.split] = score
    return found


def _group_label(group: str, by_split: dict[Split, GroupScore]) -> str:
    flag = "*" if any(score.notes for score in by_split.values()) else ""
    return f"{wrapped(group, 28)}{flag}\n(n {' / '.join(str(score.clips) for score in by_split.values())})"


def _drops(scores: StudyScores) -> list[Plot]:
    """What hiding a modality costs the headline row, or where that does not fuse, the first row that fuses most."""
    recipes = {drop.recipe: sum(other.recipe == drop.recipe for other in scores.drops) for drop in scores.drops}
    if not recipes:
        return []
    recipe = scores.results.headline
    if recipe not in recipes:
        recipe = max(recipes, key=lambda name: recipes[name])
    drops = [drop for drop in scores.drops if drop.recipe == recipe]
    metric = words(scores.task.metric)
    unit = "points" if metric.percent else "× 100"
    figure, axes = chart(len(drops), 0.5)
    for split, offset in offsets(scores.splits).items():
        at = [(i + offset, 100 * drop.change[split]) for i, drop in enumerate(drops) if split in drop.change]
        y, change = [y for y, _ in at], [value for _, value in at]
        bars = axes.barh(y, change, height=thickness(scores.splits), color=COLORS[split], label=NAMES[split])
        axes.bar_label(bars, fmt="%+.2f", padding=3, fontsize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.margins(x=0.18)
    finish(axes, [f"without {drop.view}" for drop in drops], f"change of {metric.long} ({unit}), {recipe}")
    legend(figure, axes)
    told = "; ".join(f"without {drop.view} {_changes(drop)}" for drop in drops)
    caption = f"{recipe} with one modality masked in every clip, and not trained again."
    alt = f"Change of {metric.long} of {recipe} in {metric.points}: {told}."
    return [plot_of("drops", "Modality drop", alt, caption, figure)]


def _changes(drop: DropScore) -> str:
    return ", ".join(f"{NAMES[split]} {100 * change:+.2f}" for split, change in drop.change.items())


_FIGURES: tuple[Callable[[StudyScores], list[Plot]], ...] = (
    *(_rows, _seeds, confusions, reliability_diagrams, timelines, _groups, _drops, contribution_bars),
)


def _span(axes: Axes, estimates: Sequence[Estimate]) -> None:
    """From 0, or from the lowest correlation, to 100."""
    axes.set_xlim(min([0.0, *(100 * value for e in estimates for value in (e.value, *(e.interval or ())))]), 100)


def _row_label(row: RowScore) -> str:
    name, views = row.row.recipe, ", ".join(row.row.views)
    seen = f"({views})" if views not in ("", name) else ""
    return f"{name} {seen}".rstrip() if len(name) + len(seen) < 26 else f"{wrapped(name, 32)}\n{seen}".rstrip()


def _published(row: RowScore, split: Split) -> float | None:
    """What the paper prints by the metric of the figure."""
    published = row.row.published
    if published is None or published.metric:
        return None
    return published.validation if split is Split.VALIDATION else published.test


def _is_baseline(row: RowScore) -> bool:
    return row.section == "baseline"


def _percent(score: Estimate) -> str:
    return f"{100 * score.value:.2f}"
