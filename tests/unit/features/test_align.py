from typing import Any, cast

import numpy as np
import pytest
from scipy.interpolate import interp1d  # pyright: ignore[reportUnknownVariableType]

from twominds.features.align import How, align, nearest

RNG = np.random.default_rng(0)
TIMES = np.sort(RNG.uniform(0, 10, 40))
ROWS = RNG.normal(size=(40, 3)).astype(np.float32)
GRID = np.linspace(-1, 11, 97)


@pytest.mark.parametrize("how", ["linear", "nearest"])
def test_between_rows_it_is_scipy_s(how: How) -> None:
    ends: Any = (ROWS[0], ROWS[-1])
    theirs: Any = cast(Any, interp1d)(TIMES, ROWS, kind=how, axis=0, bounds_error=False, fill_value=ends)(GRID)
    ours = align(ROWS, TIMES, GRID, how)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_of_two_rows_as_near_the_earlier_counts() -> None:
    rows = np.arange(4.0)[:, None]
    assert align(rows, np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.5, 1.0, 1.5, 1.6]), "nearest")[:, 0].tolist() == [
        0.0,
        1.0,
        1.0,
        3.0,
    ]
    assert align(rows, np.array([0.0, 1.0, 1.0, 2.0]), np.array([1.0]), "linear")[0, 0] == 1.0


@pytest.mark.parametrize("window_s", [0.01, 0.7, 3.0, 100.0])
def test_means_are_those_of_windows_cut_by_hand(window_s: float) -> None:
    expected: list[Any] = []
    for point in GRID:
        inside = np.abs(TIMES - point) <= window_s / 2
        expected.append(ROWS[inside].mean(axis=0) if inside.any() else ROWS[np.abs(TIMES - point).argmin()])
    np.testing.assert_allclose(align(ROWS, TIMES, GRID, "mean", window_s=window_s), expected, atol=1e-6)


def test_rows_in_any_order_and_points_in_any_order_and_shape() -> None:
    order = RNG.permutation(40)
    points = RNG.permutation(GRID)[:90].reshape(30, 3)
    options: list[tuple[How, float | None]] = [("nearest", None), ("linear", None), ("mean", 0.5)]
    for how, window_s in options:
        found = align(ROWS[order], TIMES[order], points, how, window_s=window_s)
        assert found.shape == (30, 3, 3)
        flat = align(ROWS, TIMES, points.ravel(), how, window_s=window_s)
        np.testing.assert_allclose(found.reshape(90, 3), flat, atol=1e-6)


def test_more_points_than_are_worked_out_at_once() -> None:
    grid = np.linspace(0, 10, 5000)
    for how, window_s in [("linear", None), ("mean", 1.0)]:
        whole = align(ROWS, TIMES, grid, how, window_s=window_s)  # pyright: ignore[reportArgumentType]
        part = align(ROWS, TIMES, grid[4321:4330], how, window_s=window_s)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(whole[4321:4330], part, atol=1e-6)


@pytest.mark.parametrize("points", [1, 7, 40, 83])
def test_by_position_a_line_is_scipys_from_end_to_end(points: int) -> None:
    """HSEmotion's: `interp1d(linspace(0, 1, T), rows)(linspace(0, 1, N))`."""
    expected: Any = cast(Any, interp1d)(np.linspace(0, 1, 40), ROWS, axis=0)(np.linspace(0, 1, points))
    found = align(ROWS, None, np.zeros(points), "linear", by="position")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_by_position_the_nearest_row_is_rounded_down() -> None:
    """HSEmotion's `int(k T / F)`: seven rows, three points."""
    rows = np.arange(7.0)[:, None]
    assert align(rows, None, np.zeros(3), "nearest", by="position")[:, 0].tolist() == [0.0, 2.0, 4.0]


def test_a_single_row_is_everywhere() -> None:
    for how in ("nearest", "linear"):
        assert align(ROWS[:1], TIMES[:1], GRID, how).tolist() == [ROWS[0].tolist()] * len(GRID)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ROWS[:0], "times_s": TIMES[:0]}, "at least one row"),
        ({"times_s": None}, "40 rows have times of shape None"),
        ({"times_s": TIMES[:3]}, "40 rows have times of shape"),
        ({"how": "mean"}, "window"),
        ({"window_s": 1.0}, "window"),
        ({"how": "mean", "window_s": 0.0}, "window"),
        ({"by": "position", "grid": GRID[:, None]}, "by position"),
        ({"by": "position", "how": "mean", "window_s": 1.0}, "by position"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"rows": ROWS, "times_s": TIMES, "grid": GRID, "how": "nearest", **options}
    with pytest.raises(ValueError, match=message):
        align(**arguments)


def test_nearest_by_hand() -> None:
    assert nearest(np.array([2.0]), np.array([0.0, 2.0, 90.0])).tolist() == [0, 0, 0]
    assert nearest(np.array([2.0, 6.0, 7.0]), np.array([0.0, 4.0, 4.1, 6.6, 9.0])).tolist() == [0, 0, 1, 2, 2]
