"""What is decided over time: the class of each point, and the stretches that have one."""

import numpy as np
import numpy.typing as npt

from twominds.records import ScoredSegment, Timeline, Times
from twominds.scoring.decision import Decision, borders_of, runs_of
from twominds.tasks import Classes, Task


def timeline(points_s: Times, outputs: npt.NDArray[np.float64], decision: Decision, task: Task) -> Timeline:
    """What is decided of each point [P] from its outputs [P, K], and the stretches of one class."""
    if not isinstance(task.output, Classes):
        return Timeline(points_s=points_s, outputs=outputs, labels=None)
    labels, borders = decision.classes(outputs, points_s), borders_of(points_s)
    segments = tuple(
        ScoredSegment(
            start_s=float(borders[start]),
            end_s=float(borders[end]),
            label=int(labels[start]),
            probability=float(outputs[start:end, labels[start]].mean()),
        )
        for start, end in runs_of(labels)
        if not task.is_binary or labels[start] == 1
    )
    return Timeline(points_s=points_s, outputs=outputs, labels=labels, segments=segments)
