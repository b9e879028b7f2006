"""The figures of a study's report, as SVG: the same scores give the same bytes."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
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
    plot_of,
    wrapped,
)
from twominds.reports.study.scores import GROUPINGS, DropScore, HeadlineGroupScore, Reliability, RowScore, StudyScores
from twominds.training.bootstrap import Estimate

COLUMNS = 4
"""Confusion matrices side by side."""


def draw_plots(scores: StudyScores) -> list[Plot]:
    """Every figure that the results have something for, in the order of the report."""
    with mpl.rc_context(STYLE):
        return [plot for draw in _FIGURES for plot in draw(scores)]


def _rows(scores: StudyScores) -> list[Plot]:
    rows = scores.rows
    figure, axes = chart(len(rows), 0.4)
    for split, offset in _offsets(scores).items():
        at = [(i + offset, row) for i, row in enumerate(rows) if split in row.splits]
        draw_bars(axes, [(y, row.splits[split].mf1) for y, row in at], split, _thickness(scores))
        paper = [(_published(row, split), y) for y, row in at if row.row.published]
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
    baselines = [row.splits[scores.shown].mf1.value for row in rows if _is_baseline(row) and scores.shown in row.splits]
    if baselines:
        label = f"best baseline ({NAMES[scores.shown]})"
        axes.axvline(100 * max(baselines), color="black", linestyle=":", linewidth=1, label=label)
    for i, (row, following) in enumerate(pairwise(rows)):
        if row.section != following.section:
            axes.axhline(i + 0.5, color="#bbbbbb", linewidth=0.8)
    finish(axes, [_row_label(row) for row in rows], "macro F1 (%)")
    axes.set_xlim(0, 100)
    legend(figure, axes)
    told = "; ".join(
        f"{row.row.recipe} {', '.join(f'{NAMES[s]} {_percent(row.splits[s].mf1)}' for s in row.splits)}" for row in rows
    )
    caption = "Thin lines: 95 % CI over people."
    if any(row.row.published for row in rows):
        caption += " Diamonds: what the paper prints."
    if baselines:
        caption += " Dotted: the best baseline, which sees no video."
    return [plot_of("rows", "Macro F1 of every row", f"Macro F1 in percent: {told}.", caption, figure)]


def _seeds(scores: StudyScores) -> list[Plot]:
    rows = [row for row in scores.rows if any(len(found.by_model) > 1 for found in row.splits.values())]
    if not rows:
        return []
    figure, axes = chart(len(rows), 0.36)
    for split, offset in _offsets(scores).items():
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
        means = [100 * score.mf1.value for _, score in found]
        axes.scatter(means, [y for y, _ in found], s=70, marker="|", color="black", linewidths=1.3, zorder=3)
    axes.grid(axis="y", color="#eeeeee")
    finish(axes, [_row_label(row) for row in rows], "macro F1 (%)")
    legend(figure, axes)
    told = "; ".join(
        f"{row.row.recipe} {', '.join(f'{NAMES[s]} {100 * row.splits[s].spread:.2f}' for s in row.splits)}"
        for row in rows
    )
    alt = f"Standard deviation of macro F1 over the seeds, in percentage points: {told}."
    caption = "Each dot is the model of one seed; the upright line is their mean."
    return [plot_of("seeds", "Spread over the seeds", alt, caption, figure)]


def _confusions(scores: StudyScores) -> list[Plot]:
    split, classes = scores.shown, scores.results.num_outputs
    rows = [row for row in scores.rows if split in row.splits]
    lines = -(-len(rows) // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, 1.75 * lines + 0.3))
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in panels.flat[len(rows) :]:
        axes.set_axis_off()
    for number, (axes, row) in enumerate(zip(panels.flat, rows, strict=False)):
        counts = np.array(row.splits[split].confusion)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        whole = len(row.splits[split].by_model) == 1
        for i, j in np.ndindex(classes, classes) if classes <= 4 else ():
            text = f"{counts[i, j]:.0f}" if whole else f"{counts[i, j]:.1f}"
            axes.text(j, i, text, ha="center", va="center", color="white" if share[i, j] > 0.55 else "black")
        axes.set_title(wrapped(row.row.recipe, 22), fontsize=8)
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if number % COLUMNS == 0:
            axes.set_ylabel("true class")
        if number + COLUMNS >= len(rows):
            axes.set_xlabel("predicted class")
    told = "; ".join(
        f"{row.row.recipe} " + " / ".join(" ".join(f"{n:.1f}" for n in line) for line in row.splits[split].confusion)
        for row in rows
    )
    caption = (
        f"Clips of the {NAMES[split]} split, mean over each row's models; the colour is the share of the true class. "
        f"Classes in the order of the task (A/H: 0 absent, 1 present)."
    )
    alt = f"Confusion matrices on {NAMES[split]}, true classes as lines: {told}."
    return [plot_of("confusion", "Confusion matrices", alt, caption, figure)]


def _reliability(scores: StudyScores) -> list[Plot]:
    diagrams = {split: found for split, found in scores.reliability.items() if found.ece is not None}
    if not diagrams:
        return []
    figure = Figure(figsize=(WIDTH_IN, 4.2))
    panels = figure.subplots(2, 2, squeeze=False, height_ratios=[3, 1], sharex=True)
    for column, axes in enumerate(panels.T):
        if column < len(diagrams):
            split, found = list(diagrams.items())[column]
            _reliability_panel(axes[0], axes[1], split, found)
        else:
            axes[0].set_axis_off()
            axes[1].set_axis_off()
    recipe = scores.results.headline
    ece = ", ".join(f"{NAMES[split]} {100 * (found.ece or 0):.2f} %" for split, found in diagrams.items())
    caption = (
        f"{recipe}: how often the last class is there (A/H: present) against its predicted probability, in ten bins of "
        f"equal width; on the dashed line the two agree. Below, how many answers each bin holds (all models' together)."
    )
    alt = f"Reliability diagram of {recipe}; expected calibration error (ECE): {ece}."
    return [plot_of("reliability", "Reliability of the probabilities", alt, caption, figure)]


def _reliability_panel(curve: Axes, histogram: Axes, split: Split, found: Reliability) -> None:
    points = [
        (p, f) for p, f in zip(found.probability, found.frequency, strict=True) if p is not None and f is not None
    ]
    curve.plot([0, 1], [0, 1], color="#777777", linestyle="--", linewidth=1)
    curve.plot([p for p, _ in points], [f for _, f in points], marker="o", color=COLORS[split])
    curve.set_title(f"{NAMES[split]}: ECE {100 * (found.ece or 0):.2f} %")
    curve.set_ylabel("share of the last class")
    curve.set_ylim(-0.03, 1.03)
    bins = len(found.counts)
    centers = (np.arange(bins) + 0.5) / bins
    histogram.bar(centers, found.counts, width=0.9 / bins, color=COLORS[split])
    for center, count in zip(centers, found.counts, strict=True):
        histogram.annotate(str(count), (center, count), (0, 1.5), textcoords="offset points", ha="center", fontsize=6.5)
    histogram.margins(y=0.3)
    histogram.set_ylabel("answers")
    histogram.set_xlabel("predicted probability")


def _groups(scores: StudyScores) -> list[Plot]:
    """One figure for the questions, one for the participants' attributes."""
    by_person = [name for name in GROUPINGS if name != "question"]
    figures = [
        ("questions", "Macro F1 per question", ["question"]),
        ("people", "Macro F1 per gender, age range and ethnicity", by_person),
    ]
    return [plot for name, title, groupings in figures for plot in _group_figure(scores, name, title, groupings)]


def _group_figure(scores: StudyScores, name: str, title: str, groupings: Sequence[str]) -> list[Plot]:
    found = {grouping: _by_group(scores.groups, grouping) for grouping in groupings}
    found = {grouping: by_group for grouping, by_group in found.items() if by_group}
    if not found:
        return []
    sizes = [len(by_group) for by_group in found.values()]
    figure = Figure(figsize=(WIDTH_IN, 0.42 * sum(sizes) + 0.35 * len(sizes) + 0.9))
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=[n + 0.5 for n in sizes], sharex=True)[:, 0]
    for axes, (grouping, by_group) in zip(panels, found.items(), strict=True):
        for split, offset in _offsets(scores).items():
            at = [
                (i + offset, by_split[split].mf1) for i, by_split in enumerate(by_group.values()) if split in by_split
            ]
            draw_bars(axes, at, split, _thickness(scores))
        overall = scores.headline.splits.get(scores.shown)
        if overall:
            label = f"all clips ({NAMES[scores.shown]})"
            axes.axvline(100 * overall.mf1.value, color="black", linestyle=":", linewidth=1, label=label)
        finish(axes, [_group_label(group, by_split) for group, by_split in by_group.items()], "")
        axes.set_title(grouping, loc="left", fontsize=9, fontweight="bold")
        axes.set_xlim(0, 100)
    panels[-1].set_xlabel("macro F1 (%)")
    legend(figure, panels[0])
    told = "; ".join(
        f"{score.grouping} {score.group} {NAMES[score.split]} {_percent(score.mf1)} ({score.clips} clips)"
        for score in scores.groups
        if score.grouping in found
    )
    counted = " / ".join(NAMES[split] for split in scores.splits)
    caption = (
        f"{scores.results.headline}: thin lines are 95 % CI over the group's people; n is the number of clips "
        f"({counted}). * few clips, few people or a class missing (see the table): do not read much into these."
    )
    return [plot_of(name, title, f"{title} in percent: {told}.", caption, figure)]


def _by_group(groups: Sequence[HeadlineGroupScore], grouping: str) -> dict[str, dict[Split, HeadlineGroupScore]]:
    found: dict[str, dict[Split, HeadlineGroupScore]] = {}
    for score in sorted((score for score in groups if score.grouping == grouping), key=lambda score: score.group):
        found.setdefault(score.group, {})[score.split] = score
    return found


def _group_label(group: str, by_split: dict[Split, HeadlineGroupScore]) -> str:
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
    figure, axes = chart(len(drops), 0.5)
    for split, offset in _offsets(scores).items():
        at = [(i + offset, 100 * drop.change[split]) for i, drop in enumerate(drops) if split in drop.change]
        y, change = [y for y, _ in at], [value for _, value in at]
        bars = axes.barh(y, change, height=_thickness(scores), color=COLORS[split], label=NAMES[split])
        axes.bar_label(bars, fmt="%+.2f", padding=3, fontsize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.margins(x=0.18)
    finish(axes, [f"without {drop.view}" for drop in drops], f"change of macro F1 (points), {recipe}")
    legend(figure, axes)
    told = "; ".join(f"without {drop.view} {_changes(drop)}" for drop in drops)
    caption = f"{recipe} with one modality masked in every clip, and not trained again."
    alt = f"Change of macro F1 of {recipe} in percentage points: {told}."
    return [plot_of("drops", "Modality drop", alt, caption, figure)]


def _changes(drop: DropScore) -> str:
    return ", ".join(f"{NAMES[split]} {100 * change:+.2f}" for split, change in drop.change.items())


_FIGURES: tuple[Callable[[StudyScores], list[Plot]], ...] = (_rows, _seeds, _confusions, _reliability, _groups, _drops)


def _row_label(row: RowScore) -> str:
    name, views = row.row.recipe, ", ".join(row.row.views)
    seen = f"({views})" if views not in ("", name) else ""
    return f"{name} {seen}".rstrip() if len(name) + len(seen) < 26 else f"{wrapped(name, 32)}\n{seen}".rstrip()


def _published(row: RowScore, split: Split) -> float:
    published = row.row.published
    assert published is not None
    return published.validation if split is Split.VALIDATION else published.test


def _is_baseline(row: RowScore) -> bool:
    return row.section == "baseline"


def _percent(mf1: Estimate) -> str:
    return f"{100 * mf1.value:.2f}"


def _offsets(scores: StudyScores) -> dict[Split, float]:
    """Where each split's mark is, from the middle of its row."""
    if len(scores.splits) == 1:
        return {scores.splits[0]: 0.0}
    return {split: -0.2 + 0.4 * i for i, split in enumerate(scores.splits)}


def _thickness(scores: StudyScores) -> float:
    return 0.7 if len(scores.splits) == 1 else 0.38
