import numpy as np
import pytest

from twominds.records import BoolArray, ByteArray
from twominds.synthetic.corpus.anatomy import Anatomy, Expression, eye, mouth
from twominds.synthetic.corpus.casting import random_scene
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame


def _draw(pose: Pose | None = None, expression: Expression | None = None) -> tuple[ByteArray, list[list[float]]]:
    person = Person(pose=pose or Pose(), expression=expression or Expression())
    image, boxes = draw_frame(Scene(people=(person,)), (320, 240))
    return image, boxes.tolist()


def test_box_is_where_the_face_is() -> None:
    empty, none = draw_frame(Scene(), (320, 240))
    assert none.shape == (0, 4)
    image, ((left, top, right, bottom),) = _draw()
    changed: BoolArray = np.any(image != empty, axis=2)
    assert (image.shape, image.dtype) == ((240, 320, 3), np.uint8)
    middle = round((top + bottom) / 2)
    columns = np.flatnonzero(changed[middle])
    assert columns.min() == pytest.approx(left, abs=14)  # the ears stand out a little
    assert columns.max() == pytest.approx(right, abs=14)
    assert (left + right) / 2 == pytest.approx(160, abs=2)
    assert bottom - top == pytest.approx(0.87 * 0.5 * 240, rel=0.02)


def test_box_moves_and_grows_with_the_head() -> None:
    _, ((left, top, right, bottom),) = _draw(Pose(x=0.25, y=0.5, head_height=0.4))
    assert (left + right) / 2 == pytest.approx(160 + 0.25 * 240, abs=2)
    assert bottom == pytest.approx((0.5 + 0.2) * 240, abs=2)
    assert top > 0


def test_no_box_for_a_face_that_is_mostly_outside() -> None:
    assert _draw(Pose(x=1.2))[1] == []
    assert _draw(Pose(x=-1.2))[1] == []
    assert _draw(Pose(x=0.0, y=-0.5))[1] == []
    assert len(_draw(Pose(x=0.55))[1]) == 1


def test_largest_face_comes_first_and_a_hidden_one_has_no_box() -> None:
    small, large = Pose(x=-0.5, y=0.3, head_height=0.2), Pose(x=0.2)
    scene = Scene(people=(Person(pose=small), Person(pose=large)))
    _, boxes = draw_frame(scene)
    heights = boxes[:, 3] - boxes[:, 1]
    assert len(boxes) == 2
    assert heights[0] > 2 * heights[1]
    hidden = Scene(people=(Person(pose=Pose(x=0.2, head_height=0.2)), Person(pose=large)))
    assert len(draw_frame(hidden)[1]) == 1


@pytest.mark.parametrize(
    "change",
    [
        Expression(mouth_open=0.8),
        Expression(smile=0.8),
        Expression(smile=-0.8),
        Expression(lip_press=1.0),
        Expression(brow_raise=0.8),
        Expression(brow_furrow=0.9),
        Expression(eye_open=0.3),
        Expression(gaze_x=0.9),
        Expression(flush=1.0),
        Expression(flush=-1.0),
    ],
    ids=str,
)
def test_expression_changes_the_face_and_nothing_else(change: Expression) -> None:
    rest, ((left, top, right, bottom),) = _draw()
    image, _ = _draw(expression=change)
    differs = np.argwhere((image.astype(int) - rest).any(axis=2))
    assert len(differs) > 25
    assert differs[:, 0].min() >= top
    assert differs[:, 0].max() <= bottom + 2
    assert differs[:, 1].min() >= left - 14  # the ears stand out a little
    assert differs[:, 1].max() <= right + 14


def test_face_shapes_follow_the_expression() -> None:
    anatomy = Anatomy()
    smile, frown = mouth(anatomy, Expression(smile=1.0)).seam, mouth(anatomy, Expression(smile=-1.0)).seam
    assert smile[0, 1] < smile[4, 1]  # corners above the middle (y points down)
    assert frown[0, 1] > frown[4, 1]
    assert mouth(anatomy, Expression()).inside is None
    assert mouth(anatomy, Expression(mouth_open=1.0)).inside is not None
    shut, open_ = (np.ptp(eye(anatomy, Expression(eye_open=e), 1).opening[:, 1]) for e in (0.0, 1.0))
    assert shut < 0.5 * open_


def test_random_scenes_can_all_be_drawn_and_repeat_with_the_seed() -> None:
    counts: set[int] = set()
    for seed in range(60):
        image, boxes = draw_frame(random_scene(np.random.default_rng(seed)), (224, 224))
        again, _ = draw_frame(random_scene(np.random.default_rng(seed)), (224, 224))
        np.testing.assert_array_equal(image, again)
        assert (boxes >= 0).all()
        assert (boxes <= 224).all()
        counts.add(len(boxes))
    assert counts == {0, 1, 2}
