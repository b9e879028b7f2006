"""Figures of what only classes have: confusion matrices, and how reliable the probabilities of two are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twominds.records import Split
from twominds.reports.charts import COLORS, NAMES, WIDTH_IN, Plot, plot_of, wrapped
from twominds.reports.study.reliability import Reliability
from twominds.reports.study.scores import StudyScores

COLUMNS = 4
"""Confusion matrices side by side."""


def confusions(scores: StudyScores) -> list[Plot]:
    """Each row's confusion matrix; none of intensities."""
    split, classes = scores.shown, scores.task.num_outputs
    found = [(row, row.splits[split].confusion) for row in scores.rows if split in row.splits]
    rows = [(row, np.array(counts)) for row, counts in found if counts is not None]
    if not rows:
        return []
    lines = -(-len(rows) // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN, 1.75 * lines + 0.3))
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in panels.flat[len(rows) :]:
        axes.set_axis_off()
    for number, (axes, (row, counts)) in enumerate(zip(panels.flat, rows, strict=False)):
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
        axes.tick_params(length=0, **({"labelsize": 7} if classes > 4 else {}))
        if number % COLUMNS == 0:
            axes.set_ylabel("true class")
        if number + COLUMNS >= len(rows):
            axes.set_xlabel("predicted class")
    told = "; ".join(
        f"{row.row.recipe} " + " / ".join(" ".join(f"{n:.1f}" for n in line) for line in counts.tolist())
        for row, counts in rows
    )
    task, named = scores.task, ", ".join(f"{i} {name}" for i, name in enumerate(scores.task.names))
    caption = (
        f"{'Frames' if task.per_frame else 'Clips'} of the {NAMES[split]} split, mean over each row's models; the "
        f"colour is the share of the true class. Classes in the order of the task "
        f"({'A/H: 0 absent, 1 present' if task.name.startswith('ah-') else named})."
    )
    alt = f"Confusion matrices on {NAMES[split]}, true classes as lines: {told}."
    return [plot_of("confusion", "Confusion matrices", alt, caption, figure)]


def reliability_diagrams(scores: StudyScores) -> list[Plot]:
    """Of the headline row, where it has probabilities of two classes."""
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
