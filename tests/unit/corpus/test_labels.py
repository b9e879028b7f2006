import numpy as np
import pytest

from twominds.corpus.labels import frame_labels, labels_at
from twominds.records import Clip, Labels, Times


def times(*seconds: float) -> Times:
    return np.array(seconds, np.float64)


def labels(*classes: int, times_s: Times | None = None, ends_s: Times | None = None) -> Labels:
    """Of these classes; -1 is unknown."""
    values = np.array(classes, np.float32)[:, None]
    return Labels(values=np.maximum(values, 0), known=values[:, 0] >= 0, times_s=times_s, ends_s=ends_s)


def test_frames_that_are_not_there_are_unknown() -> None:
    assert frame_labels({3: (1,), 0: (0,)}).classes.tolist() == [0, -1, -1, 1]
    assert frame_labels({1: (0.1, 0.2)}).values.shape == (2, 2)
    assert len(frame_labels({})) == 0
    assert frame_labels({1: (2,)}, 4).classes.tolist() == [-1, 2, -1, -1]
    assert frame_labels({3: (2,)}, 2).classes.tolist() == [-1, -1, -1, 2]


@pytest.mark.parametrize(("frames", "expected"), [(3, [1, -1, 0]), (2, [1, -1]), (5, [1, -1, 0, -1, -1]), (0, [])])
def test_frames_by_their_order(frames: int, expected: list[int]) -> None:
    at = labels_at(labels(1, -1, 0), np.arange(frames) / 24.0, 0.0)
    assert at.classes.tolist() == expected
    assert at.times_s is not None
    assert at.times_s.tolist() == (np.arange(frames) / 24.0).tolist()


def test_frames_at_points_of_another_rate() -> None:
    uneven = times(0.0, 0.1, 0.5, 0.6)  # two frames longer than the labels
    at = labels_at(labels(1, 0), times(0.0, 0.06, 0.12, 0.3), 0.05, frames_s=uneven)
    assert at.classes.tolist() == [1, 0, 0, -1]
    assert labels_at(labels(1, 0, 1), times(0.0, 0.2), 0.05, frames_s=times(0.0, 0.1)).classes.tolist() == [1, -1]


def test_the_nearest_label_within_the_tolerance_whatever_the_order() -> None:
    timed = labels(2, 0, 1, -1, times_s=times(1.0, 0.0, 0.5, 1.5))
    points = times(-0.3, -0.25, 0.2, 0.25, 0.26, 0.9, 1.25, 1.3, 1.75, 1.76)
    assert labels_at(timed, points, 0.25).classes.tolist() == [-1, 0, 0, 0, 1, 2, 2, -1, -1, -1]
    assert labels_at(labels(times_s=times()), points, 1.0).classes.tolist() == [-1] * 10
    assert labels_at(labels(1, times_s=times(0.5)), times(0.0, 0.5, 1.0), 0.1).classes.tolist() == [-1, 1, -1]


def test_a_segment_holds_up_to_its_end() -> None:
    segments = labels(1, 0, -1, 1, times_s=times(2.0, 0.0, 3.0, 4.0), ends_s=times(3.0, 2.0, 4.0, 5.0))
    points = times(-0.1, 0.0, 1.99, 2.0, 2.9, 3.0, 4.0, 4.99, 5.0, 60.0)
    assert labels_at(segments, points, 0.5).classes.tolist() == [-1, 0, 0, 1, 1, -1, 1, 1, -1, -1]
    gap = labels(1, 1, times_s=times(0.0, 3.0), ends_s=times(1.0, 4.0))
    assert labels_at(gap, times(0.5, 1.0, 2.0, 3.0), 9.0).classes.tolist() == [1, -1, -1, 1]
    nothing = labels(times_s=times(), ends_s=times())
    assert labels_at(nothing, times(0.0), 0.0).classes.tolist() == [-1]


def test_intensities() -> None:
    known = Labels(values=np.array([[0.1, 0.9]], np.float32), known=np.array([True]), times_s=times(1.0))
    at = labels_at(known, times(0.9, 2.0), 0.2)
    np.testing.assert_allclose(at.values[0], [0.1, 0.9], atol=1e-6)
    assert at.known.tolist() == [True, False]


def test_labels_in_time_are_none_of_the_whole_clip() -> None:
    assert Clip(clip_id="a", video_uri="a.mp4", labels=Labels.of_clip(1)).label == 1
    timed = labels(1, times_s=times(0.0), ends_s=times(2.0))
    assert Clip(clip_id="a", video_uri="a.mp4", labels=timed).label is None
    assert timed != labels(1, times_s=times(0.0))
    assert timed != labels(1, times_s=times(0.0), ends_s=times(3.0))
    assert timed == labels(1, times_s=times(0.0), ends_s=times(2.0))
    with pytest.raises(ValueError, match="segments have as many starts and ends"):
        labels(1, ends_s=times(2.0))
