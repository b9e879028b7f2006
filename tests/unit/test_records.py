"""Labels, tasks and views: what is known of which point, and what looks at what."""

import numpy as np
import pytest

from twominds.records import Clip, Embedding, Features, Labels, Modality, absent, clip_labels, modality_of
from twominds.tasks import AH_FRAME, AH_VIDEO, MIMICRY, TASKS, Intensities


def labels(values: list[list[float]], known: list[bool], times_s: list[float] | None = None) -> Labels:
    return Labels(
        values=np.array(values, np.float32),
        known=np.array(known),
        times_s=None if times_s is None else np.array(times_s),
    )


def test_what_nobody_annotated_is_unknown_and_never_a_class() -> None:
    found = labels([[1], [0], [1]], [True, False, True], [0.0, 0.04, 0.08])
    assert len(found) == 3
    assert found.classes.tolist() == [1, -1, 1]


def test_labels_are_equal_by_what_is_known() -> None:
    one = labels([[1], [0]], [True, False], [0.0, 0.04])
    assert one == labels([[1], [7]], [True, False], [0.0, 0.04]), "what stands at an unknown point means nothing"
    assert one != labels([[0], [0]], [True, False], [0.0, 0.04])
    assert one != labels([[1], [0]], [True, True], [0.0, 0.04])
    assert one != labels([[1], [0]], [True, False], [0.0, 0.05])
    assert one != labels([[1], [0]], [True, False])
    assert one != labels([[1]], [True], [0.0])
    assert one != "labels"


def test_labels_of_other_lengths_than_their_points_are_refused() -> None:
    with pytest.raises(ValueError, match="2 points have values"):
        labels([[1], [0]], [True])
    with pytest.raises(ValueError, match="2 points have times"):
        labels([[1], [0]], [True, True], [0.0])
    with pytest.raises(ValueError, match=r"values of shape \(2,\)"):
        Labels(values=np.zeros(2, np.float32), known=np.ones(2, np.bool_))


def test_a_clip_has_a_label_where_it_is_of_one_class_as_a_whole() -> None:
    def label(of: Labels | None) -> int | None:
        return Clip(clip_id="a", video_uri="", labels=of).label

    assert [label(clip_labels(said)) for said in (0, 1, None)] == [0, 1, None]
    assert clip_labels(None) is None
    assert label(labels([[1]], [False])) is None
    assert label(labels([[1], [1]], [True, True])) is None
    assert label(Labels.of_clip(0.5, 0.25)) is None


def test_a_task_says_how_many_numbers_a_model_gives_and_a_label_has() -> None:
    assert [(t.num_outputs, t.output.num_values, t.per_frame, t.is_binary) for t in (AH_VIDEO, AH_FRAME, MIMICRY)] == [
        (2, 1, False, True),
        (2, 1, True, True),
        (6, 6, False, False),
    ]
    assert all(TASKS[name].name == name for name in TASKS)
    with pytest.raises(ValueError, match="from low to high"):
        Intensities(names=("joy",), low=1.0, high=1.0)


def test_a_view_looks_at_the_modality_before_its_first_dot() -> None:
    assert [modality_of(view) for view in ("face", "face.effnet", "text.gte.v2")] == ["face", "face", "text"]
    gone = absent("no face")
    assert Features(clip_id="a", view="face.effnet", presence=gone).modality is Modality.FACE
    assert Embedding(clip_id="a", view="face.effnet", presence=gone).modality is Modality.FACE
    with pytest.raises(ValueError, match="pose"):
        modality_of("pose.openpose")
