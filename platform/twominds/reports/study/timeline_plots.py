"""The figure of a few clips over time: what people said of their frames, and what the headline says."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from twominds.records import Split, Timeline
from twominds.reports.charts import CLASSES, MANY, NAMES, WIDTH_IN, Plot, plot_of
from twominds.reports.study.results import StudyResults
from twominds.reports.study.scores import StudyScores
from twominds.scoring.decision import borders_of, runs_of
from twominds.tasks import Classes, Task
from twominds.training.metrics import IntArray

MOST = 4
"""Clips that are drawn."""
_UNKNOWN = "#eeeeee"


@dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip whose timeline is drawn."""

    number: int
    """Its place in the split, from 1."""
    timeline: Timeline
    threshold: float
    truth: npt.NDArray[np.float64]
    """[P, 1] classes or [P, K] intensities; NaN where nothing is known."""


def shown_clips(results: StudyResults, split: Split) -> list[ShownClip]:
    """The clips with the most decided segments, of equals (as of intensities, which have none) those with most points.

    None of a task per clip.
    """
    points, scores = results.points[split], results.scores.get(split, ())
    found: list[ShownClip] = []
    for (owner, rows), score in zip(points.of_clips(), scores, strict=False):
        if score is not None and score.timeline is not None:
            truth = np.full((len(score.timeline.points_s), results.task.output.num_values), np.nan)
            truth[points.places[rows]] = points.truth[rows].reshape(-1, truth.shape[1])
            found.append(ShownClip(number=owner + 1, timeline=score.timeline, threshold=score.threshold, truth=truth))
    found.sort(key=lambda clip: (len(clip.timeline.segments), len(clip.timeline.points_s)), reverse=True)
    return sorted(found[:MOST], key=lambda clip: clip.number)


def timelines(scores: StudyScores) -> list[Plot]:
    """Truth, decision and output of a few clips; nothing of a task per clip."""
    clips, task = shown_clips(scores.results, scores.shown), scores.task
    if not clips:
        return []
    of_classes = isinstance(task.output, Classes)
    strip = 0.21 * (2 if of_classes else task.num_outputs)
    figure = Figure(figsize=(WIDTH_IN, len(clips) * (1.2 + strip) + 0.9))
    panels = figure.subplots(2 * len(clips), 1, squeeze=False, height_ratios=[strip, 0.9] * len(clips))[:, 0]
    for i, clip in enumerate(clips):
        bands, lines = panels[2 * i], panels[2 * i + 1]
        (_class_bands if of_classes else _intensity_bands)(bands, clip, task)
        _lines(lines, clip, task)
        bands.set_title(f"clip {clip.number}", loc="left", fontsize=9, fontweight="bold")
        for axes in (bands, lines):
            borders = borders_of(clip.timeline.points_s)
            axes.set_xlim(float(borders[0]), float(borders[-1]))
    panels[-1].set_xlabel("seconds")
    handles = [Patch(color=_color(task, i), label=name) for i, name in enumerate(task.names)]
    handles.append(Patch(color=_UNKNOWN, label="not annotated"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    told = "; ".join(f"clip {clip.number} {_told(clip, of_classes)}" for clip in clips)
    drawn = "with the most decided segments" if of_classes else "with the most points"
    caption = (
        f"{scores.results.headline}, as it is served: the clips of the {NAMES[scores.shown]} split {drawn}, by their "
        f"place in the split. {_about(task)}"
    )
    alt = f"Timelines of {len(clips)} clips: {told}."
    return [plot_of("timelines", "Timelines of a few clips", alt, caption, figure)]


def _about(task: Task) -> str:
    if not isinstance(task.output, Classes):
        return "Above what people said, the darker the more; below the outputs."
    line = (
        f"the probability of {task.names[-1]} (dashed: the threshold)" if task.is_binary else "that class's probability"
    )
    return f"Above what people said of each frame, and what was decided; below {line}."


def _told(clip: ShownClip, of_classes: bool) -> str:
    if of_classes:
        return f"has {len(clip.timeline.segments)} decided segments"
    return f"has {len(clip.timeline.points_s)} points"


def _color(task: Task, label: int) -> str:
    """Of a class, or of the line of an intensity."""
    return CLASSES[label] if task.is_binary else MANY[label % len(MANY)]


def _class_bands(axes: Axes, clip: ShownClip, task: Task) -> None:
    truth = np.where(np.isnan(clip.truth[:, 0]), -1, clip.truth[:, 0]).astype(np.int64)
    decided = clip.timeline.labels
    for y, labels in ((1, truth), (0, decided)):
        if labels is not None:
            _band(axes, y, labels, clip, task)
    axes.set_yticks([1, 0], ["people", "decided"], fontsize=8)
    axes.set_ylim(-0.5, 1.5)
    _bare(axes)


def _band(axes: Axes, y: int, labels: IntArray, clip: ShownClip, task: Task) -> None:
    borders = borders_of(clip.timeline.points_s)
    for start, end in runs_of(labels):
        color = _UNKNOWN if labels[start] < 0 else _color(task, int(labels[start]))
        width = float(borders[end] - borders[start])
        axes.broken_barh([(float(borders[start]), width)], (y - 0.42, 0.84), color=color, linewidth=0)


def _intensity_bands(axes: Axes, clip: ShownClip, task: Task) -> None:
    axes.set_facecolor(_UNKNOWN)
    low, high = (task.output.low, task.output.high) if not isinstance(task.output, Classes) else (0.0, 1.0)
    borders, rows = borders_of(clip.timeline.points_s), np.arange(task.num_outputs + 1) - 0.5
    shades = np.ma.masked_invalid(clip.truth.T)
    axes.pcolormesh(borders, rows, shades, cmap="Greys", vmin=low, vmax=high)
    axes.set_yticks(range(task.num_outputs), list(task.names), fontsize=7)
    axes.set_ylim(task.num_outputs - 0.5, -0.5)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _lines(axes: Axes, clip: ShownClip, task: Task) -> None:
    times, outputs = clip.timeline.points_s, clip.timeline.outputs
    if task.is_binary:
        axes.plot(times, outputs[:, -1], color="#333333", linewidth=1.1)
        axes.axhline(clip.threshold, color="#777777", linestyle="--", linewidth=0.9)
    elif isinstance(task.output, Classes):
        axes.plot(times, outputs.max(axis=1), color="#333333", linewidth=1.1)
    else:
        for i, own in enumerate(outputs.T):
            axes.plot(times, own, color=_color(task, i), linewidth=1.1)
    low, high = (0.0, 1.0) if isinstance(task.output, Classes) else (task.output.low, task.output.high)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    axes.set_yticks([low, (low + high) / 2, high])
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#eeeeee")
