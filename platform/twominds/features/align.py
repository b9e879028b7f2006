"""From rows at their times to points at theirs: the one function between sequences and points."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from twominds.records import FloatArray, Times

How = Literal["nearest", "linear", "mean"]
"""`nearest`: the row that is nearest in time, of two as near the earlier; `linear`: between the rows before and after,
the first and the last row held outside; `mean`: of the rows within half a window of the point, the nearest where there
are none."""
By = Literal["time", "position"]
"""`time`: by time stamps. `position`: by place among the others, as HSEmotion's code does it. `linear`: the first row
is at the first point, the last at the last, and both go at an even pace between; `nearest`: point k of P takes row
k T / P of T, rounded down."""

_CHUNK = 2048
"""Points that are worked out at once, in float64."""


def align(
    rows: npt.NDArray[np.floating],
    times_s: Times | None,
    grid: Times,
    how: How,
    *,
    window_s: float | None = None,
    by: By = "time",
    at: npt.NDArray[np.int64] | None = None,
) -> FloatArray:
    """What the rows say at the points of the grid.

    Args:
        rows: [T, D], at least one.
        times_s: [T] the rows' times, in any order; not looked at by position.
        grid: [P] or [P, W] times. By position, where only their number counts, [P].
        how: see `How`.
        window_s: for `mean` alone: the window's length.
        by: see `By`.
        at: by position, which of the grid's points are wanted, so that the others cost nothing; None: all.

    Returns:
        float32 [P, D] or [P, W, D].

    Raises:
        ValueError: there are no rows, shapes do not fit, `window_s` is missing, not positive, or not for this `how`, or
            a mean is asked for by position.
    """
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"rows must be [T, D] with at least one row, not of shape {rows.shape}")
    if (how == "mean") != (window_s is not None):
        raise ValueError("a window is what `mean` needs, and nothing else takes")
    if window_s is not None and window_s <= 0:
        raise ValueError(f"a window is longer than {window_s}")
    if by == "position":
        if grid.ndim != 1:
            raise ValueError(f"by position the grid must be [P], not of shape {grid.shape}")
        if how == "mean":
            raise ValueError("by position a point has no window")
        wanted = np.arange(len(grid)) if at is None else at
        if how == "nearest":
            return rows[wanted * len(rows) // len(grid)].astype(np.float32)
        times_s, grid = np.linspace(0, 1, len(rows)), np.linspace(0, 1, len(grid))[wanted]
    if times_s is None or times_s.shape != rows.shape[:1]:
        raise ValueError(f"{len(rows)} rows have times of shape {None if times_s is None else times_s.shape}")
    if (np.diff(times_s) < 0).any():
        order = np.argsort(times_s, kind="stable")
        rows, times_s = rows[order], times_s[order]
    points = grid.reshape(-1)
    found = np.empty((len(points), rows.shape[1]), np.float32)
    for start in range(0, len(points), _CHUNK):
        some = points[start : start + _CHUNK]
        if how == "nearest":
            found[start : start + _CHUNK] = rows[nearest(times_s, some)]
        elif how == "linear":
            found[start : start + _CHUNK] = _between(rows, times_s, some)
        else:
            found[start : start + _CHUNK] = _means(rows, times_s, some, window_s or 0.0)
    return found.reshape(*grid.shape, rows.shape[1])


def nearest(times_s: Times, points: Times) -> npt.NDArray[np.intp]:
    """The row of each point [P]: whose time [T], ascending, is the nearest; of two that are as near the earlier."""
    after = np.clip(np.searchsorted(times_s, points), 0, len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    found = np.where(points - times_s[before] <= times_s[after] - points, before, after)
    return np.searchsorted(times_s, times_s[found])  # of rows at one time the first


def _between(rows: npt.NDArray[np.floating], times_s: Times, points: Times) -> npt.NDArray[np.float64]:
    after = np.clip(np.searchsorted(times_s, points), 0, len(times_s) - 1)
    before = np.maximum(after - 1, 0)
    step = times_s[after] - times_s[before]
    share = np.clip((points - times_s[before]) / np.where(step > 0, step, 1.0), 0.0, 1.0)
    share = np.where(step > 0, share, 1.0)[:, None]
    return rows[before] * (1.0 - share) + rows[after] * share


def _means(rows: npt.NDArray[np.floating], times_s: Times, points: Times, window_s: float) -> npt.NDArray[np.float64]:
    first = np.searchsorted(times_s, points - window_s / 2, side="left")
    end = np.searchsorted(times_s, points + window_s / 2, side="right")
    row = nearest(times_s, points)
    first, end = np.where(first < end, first, row), np.where(first < end, end, row + 1)
    low, high = int(first.min()), int(end.max())  # points near each other need rows near each other
    sums = np.zeros((high - low + 1, rows.shape[1]))
    np.cumsum(rows[low:high], axis=0, dtype=np.float64, out=sums[1:])
    return (sums[end - low] - sums[first - low]) / (end - first)[:, None]
