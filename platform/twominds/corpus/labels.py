"""Labels of many points: put together from what a file says of frames, and asked for at the points of a video."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from twominds.records import Labels, Times

_Indices = npt.NDArray[np.int64]
_ROUNDING_S = 1e-9


def frame_labels(frames: Mapping[int, Sequence[float]], count: int = 0) -> Labels:
    """The labels of at least `count` frames of a video, by their number from 0; what is not there is unknown."""
    values = np.zeros((max(count, max(frames, default=-1) + 1), len(next(iter(frames.values()), (0.0,)))), np.float32)
    known = np.zeros(len(values), np.bool_)
    for frame, label in frames.items():
        values[frame], known[frame] = label, True
    return Labels(values=values, known=known)


def labels_at(labels: Labels, points_s: Times, tolerance_s: float, *, frames_s: Times | None = None) -> Labels:
    """What is known at the points of a video. What nobody said anything of is unknown.

    Args:
        labels: Labels of frames in the video's own order (there may be a few more or less of them than frames: those
            without a frame are dropped, and frames without one are unknown), at times, or of segments. A segment holds
            from its start up to, but without, its end.
        points_s: [P] when something is to be known, such as the times of the video's frames.
        tolerance_s: How far a label may be from the point that it is taken for: half of what is between two labels.
            Of frames that are the points themselves, and of segments, none is asked for.
        frames_s: When the video's frames are shown, where the points are other than these.
    """
    if labels.times_s is None and frames_s is None:
        index = np.where(np.arange(len(points_s)) < len(labels), np.arange(len(points_s)), -1)
    elif labels.ends_s is not None and labels.times_s is not None:
        index = _covering(labels.times_s, labels.ends_s, points_s)
    else:
        times_s = labels.times_s if labels.times_s is not None else _first(frames_s, len(labels))
        index = _nearest(times_s, points_s, tolerance_s)
    found = index >= 0
    values = np.zeros((len(points_s), labels.values.shape[1]), np.float32)
    values[found] = labels.values[index[found]]
    known = np.zeros(len(points_s), np.bool_)
    known[found] = labels.known[index[found]]
    return Labels(values=values, known=known, times_s=points_s)


def _first(frames_s: Times | None, count: int) -> Times:
    return np.empty(0) if frames_s is None else frames_s[:count]


def _covering(starts_s: Times, ends_s: Times, points_s: Times) -> _Indices:
    """The index of the segment that a point is in; -1: it is in none."""
    if not len(starts_s):
        return np.full(len(points_s), -1)
    order = np.argsort(starts_s, kind="stable")
    place = np.searchsorted(starts_s[order], points_s + _ROUNDING_S, side="right") - 1
    index = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (points_s + _ROUNDING_S < ends_s[index]), index, -1)


def _nearest(times_s: Times, points_s: Times, tolerance_s: float) -> _Indices:
    """The index of the time that is nearest to a point, of two the earlier; -1: none is near enough."""
    if not len(times_s):
        return np.full(len(points_s), -1)
    order = np.argsort(times_s, kind="stable")
    times = times_s[order]
    after = np.clip(np.searchsorted(times, points_s), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    place = np.where(np.abs(points_s - times[before]) <= np.abs(times[after] - points_s), before, after)
    return np.where(np.abs(points_s - times[place]) <= tolerance_s + _ROUNDING_S, order[place], -1)
