"""Draws one picture of a person talking to a camera: a scene in, RGB pixels and face boxes out.

Everything is antialiased polygons over a backdrop that is drawn once, so that a 320 x 240 picture takes about a
millisecond. A clip of the corpus is one scene whose `Pose` and `Expression` move (see `animation`);
`casting.random_scene` gives the variety that a face detector is trained on.

Lengths are in picture heights, angles in radians, colours RGB 0-255. "Left" and "right" are the viewer's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np

from twominds.records import ByteArray, FloatArray
from twominds.synthetic.corpus import anatomy as face
from twominds.synthetic.corpus.anatomy import Anatomy, Expression, Points, Side
from twominds.synthetic.corpus.raster import Colour, fill, mix, stroke
from twominds.synthetic.corpus.room import Backdrop, empty_room, sphere_shade

Box = tuple[float, float, float, float]
HairStyle = Literal["short", "long", "bun", "bald"]

_SIDES: tuple[Side, Side] = (-1, 1)
_BLOOD: Colour = (205, 45, 40)
_PALLOR: Colour = (205, 225, 175)
MIN_VISIBLE_FACE = 0.6
"""A face of which less than this share of its box is in the picture has no box."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How a person looks: constant over a clip, and the same in all clips of a participant."""

    skin: Colour = (224, 180, 150)
    hair: Colour = (70, 50, 40)
    lips: Colour = (180, 90, 90)
    iris: Colour = (80, 100, 120)
    shirt: Colour = (70, 90, 130)
    hair_style: HairStyle = "short"
    glasses: bool = False
    beard: float = 0.0
    """0 none .. 1 full."""
    anatomy: Anatomy = field(default_factory=Anatomy)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the head, shoulders and hands are."""

    x: float = 0.0
    """Middle of the shoulders to the right of the picture's middle."""
    y: float = 0.44
    """Centre of the head below the picture's top."""
    head_height: float = 0.5
    """Skull top to chin; grows when the person leans in."""
    sway: float = 0.0
    """Head to the right of the shoulders' middle, in head heights."""
    yaw: float = 0.0
    """Head turned to the right; drawn faithfully within +-0.6."""
    pitch: float = 0.0
    """Head turned down."""
    roll: float = 0.0
    """Head tilted clockwise."""
    shrug: float = 0.0
    """Shoulders at rest 0 .. 1 at the ears."""
    hand: float = 0.0
    """Hand out of the picture 0 .. 1 beside the cheek."""
    hand_side: Side = 1
    """Which side the hand comes up: -1 left, 1 right."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody in the picture."""

    appearance: Appearance = field(default_factory=Appearance)
    pose: Pose = field(default_factory=Pose)
    expression: Expression = field(default_factory=Expression)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows; people are drawn in order, the nearest last. Without people: an empty room."""

    backdrop: Backdrop = field(default_factory=Backdrop)
    people: tuple[Person, ...] = ()


def draw_frame(scene: Scene, size: tuple[int, int] = (320, 240)) -> tuple[ByteArray, FloatArray]:
    """Draws a picture.

    Args:
        scene: What to draw.
        size: (width, height) in pixels.

    Returns:
        image: uint8 [height, width, 3] RGB.
        boxes: float32 [n, 4] as (left, top, right, bottom) in pixels, inside the picture, one for each face of which
            at least `MIN_VISIBLE_FACE` is visible, the largest first. [0, 4] without a face.
    """
    image = empty_room(scene.backdrop, size).copy()
    boxes: list[Box] = []
    for person in scene.people:
        box = _draw_person(image, person, scene.backdrop)
        if box is not None:
            boxes = [b for b in boxes if _area(_overlap(b, box)) < (1.0 - MIN_VISIBLE_FACE) * _area(b)]
            boxes.append(box)
    boxes.sort(key=_area, reverse=True)
    return image, np.asarray(boxes, dtype=np.float32).reshape(-1, 4)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _overlap(first: Box, second: Box) -> Box:
    left, top = max(first[0], second[0]), max(first[1], second[1])
    return left, top, min(first[2], second[2]), min(first[3], second[3])


class _Shape(NamedTuple):
    """Something on a face, in face coordinates: a filled polygon, or a line of `width` pixels."""

    points: Points
    colour: Colour
    width: float | None = None
    closed: bool = False


class _Head:
    """Turns face coordinates into pixels for one pose."""

    def __init__(self, centre: tuple[float, float], height_px: float, aspect: float, pose: Pose) -> None:
        self.centre = np.asarray(centre)
        self.half = np.array([aspect * height_px / 2.0, height_px / 2.0])
        cos, sin = math.cos(pose.roll), math.sin(pose.roll)
        self._to_pixels = self.half[:, None] * np.array([[cos, sin], [-sin, cos]])
        self.turn_x, self.turn_y = math.sin(pose.yaw), math.sin(pose.pitch)
        self._shrink = np.array([math.cos(pose.yaw), math.cos(pose.pitch)])

    def flat(self, points: Points) -> Points:
        """Pixels of points on the silhouette, which turning leaves where they are."""
        return points @ self._to_pixels + self.centre

    def on(self, points: Points) -> Points:
        """Pixels of points on the face, which lies on an ellipsoid that yaw and pitch turn."""
        x, y = points[:, 0], points[:, 1]
        depth = np.sqrt(np.maximum(1.0 - 0.8 * (x * x + y * y), 0.05))
        turned = points * self._shrink
        turned[:, 0] += depth * self.turn_x
        turned[:, 1] += depth * self.turn_y
        return self.flat(turned)

    def draw(self, image: ByteArray, shapes: Sequence[_Shape]) -> None:
        """Draws shapes that lie on the face, in order; turns them all at once, for speed."""
        turned = self.on(np.concatenate([shape.points for shape in shapes]))
        start = 0
        for shape in shapes:
            stop = start + len(shape.points)
            if shape.width is None:
                fill(image, turned[start:stop], shape.colour)
            else:
                stroke(image, turned[start:stop], shape.colour, shape.width, shape.closed)
            start = stop


def _draw_person(image: ByteArray, person: Person, backdrop: Backdrop) -> Box | None:
    height, width = image.shape[:2]
    look, pose = person.appearance, person.pose
    head_px = pose.head_height * height
    body_x = width / 2.0 + pose.x * height
    centre = body_x + pose.sway * head_px, pose.y * height
    head = _Head(centre, head_px, look.anatomy.aspect, pose)
    if look.hair_style == "long":
        fill(
            image,
            head.flat(face.outline(look.anatomy, 1.12) * [1.08, 1.0] + [0.0, 0.12]),
            mix(look.hair, (0, 0, 0), 0.3),
        )
    elif look.hair_style == "bun":
        fill(image, head.flat(face.disc(0.0, -1.15, 0.36, 0.26)), look.hair)
    _draw_body(image, body_x, centre, head_px, person)
    _draw_head(image, head, person, backdrop)
    if pose.hand > 0.02:
        _draw_hand(image, body_x, centre, head_px, person)
    return _visible_box(head.flat(face.outline(look.anatomy) * [1.0, 0.87] + [0.0, 0.13]), width, height)


def _visible_box(rim: Points, width: int, height: int) -> Box | None:
    left, top, right, bottom = *rim.min(axis=0).tolist(), *rim.max(axis=0).tolist()
    whole = left, top, right, bottom
    inside = _overlap(whole, (0.0, 0.0, float(width), float(height)))
    return inside if _area(inside) >= MIN_VISIBLE_FACE * _area(whole) else None


def _draw_body(image: ByteArray, body_x: float, head: tuple[float, float], head_px: float, person: Person) -> None:
    look, pose = person.appearance, person.pose
    shade = mix(look.skin, (60, 30, 25), 0.35)
    shoulder = head[1] + head_px * (0.72 - 0.22 * pose.shrug)
    bottom = image.shape[0] + 4.0
    neck = 0.19 * head_px
    slope = 0.16 - 0.12 * pose.shrug
    side = np.array([[-1.0], [1.0]])
    torso = np.array(
        [
            [-0.2, -0.08],
            [-0.5, 0.02],
            [-0.85, slope],
            [-1.0, slope + 0.22],
            [-1.06, 3.0],
            [1.06, 3.0],
            [1.0, slope + 0.22],
            [0.85, slope],
            [0.5, 0.02],
            [0.2, -0.08],
        ]
    )
    points = torso * head_px + [body_x, shoulder]
    points[:, 1] = np.minimum(points[:, 1], bottom)
    fill(image, points, look.shirt)
    throat = np.concatenate(
        [
            np.array([head[0], head[1] + 0.3 * head_px]) + side * [neck, 0.0],
            (np.array([body_x, shoulder + 0.02 * head_px]) + side * [1.15 * neck, 0.0])[::-1],
            np.array([[body_x, shoulder + 0.16 * head_px]]),
        ]
    )
    fill(image, throat[[0, 1, 2, 4, 3]], shade)
    arm = np.array([[-0.62, slope + 0.35], [-0.66, 3.0], [-0.7, slope + 0.3]])
    for mirror in _SIDES:
        stroke(image, arm[:2] * [mirror * head_px, head_px] + [body_x, shoulder], mix(look.shirt, (0, 0, 0), 0.3), 1.5)


def _draw_head(image: ByteArray, head: _Head, person: Person, backdrop: Backdrop) -> None:
    look, shape = person.appearance, person.appearance.anatomy
    skin = _complexion(person)
    dark = mix(skin, (70, 30, 30), 0.4)
    for side in _SIDES:
        fill(image, head.flat(face.disc(side * 1.0, 0.06, 0.12, 0.2)), mix(skin, dark, 0.4))
    fill(image, head.flat(face.outline(shape)), skin)
    blush, socket = mix(skin, (225, 110, 100), 0.13), mix(skin, dark, 0.22)
    relief = [_Shape(face.disc(side * 0.5, 0.33, 0.2, 0.13), blush) for side in _SIDES]
    relief += [_Shape(face.disc(side * shape.eye_spacing, 0.02, 0.23, 0.15), socket) for side in _SIDES]
    head.draw(image, relief)
    if look.beard > 0:
        fill(image, head.flat(face.beard(shape)), mix(skin, look.hair, 0.25 + 0.6 * look.beard))
    _shade(image, head, backdrop)
    head.draw(image, _features(person, backdrop, head.half[1] / 55.0))
    if look.hair_style != "bald":
        fill(image, head.flat(face.hair_cap(-0.58)) + np.array([0.0, 0.1 * head.half[1] * head.turn_y]), look.hair)


def _complexion(person: Person) -> Colour:
    flush = person.expression.flush
    return mix(person.appearance.skin, _BLOOD if flush > 0 else _PALLOR, 0.4 * abs(flush))


def _features(person: Person, backdrop: Backdrop, pixel: float) -> list[_Shape]:
    """Nose, eyes, brows, mouth and glasses; `pixel` is the width of a fine line."""
    look, expression, shape = person.appearance, person.expression, person.appearance.anatomy
    skin = _complexion(person)
    dark = mix(skin, (70, 30, 30), 0.4)
    bridge, wings, highlight = face.nose(shape)
    shapes = [
        _Shape(-bridge * [1.0, -1.0] if backdrop.light_x > 0 else bridge, mix(skin, dark, 0.5)),
        _Shape(highlight, mix(skin, (255, 250, 240), 0.3)),
        _Shape(wings, mix(dark, (50, 20, 20), 0.4), 1.3 * pixel),
    ]
    lash, fold, brow = mix(skin, (25, 15, 15), 0.85), mix(skin, (50, 25, 25), 0.55), mix(look.hair, (20, 15, 15), 0.35)
    for side in _SIDES:
        eye = face.eye(shape, expression, side)
        if expression.eye_open > 0.12:
            shapes += [
                _Shape(eye.opening, (242, 242, 240)),
                _Shape(eye.iris, mix(look.iris, (20, 20, 20), 0.25)),
                _Shape(eye.pupil, (15, 12, 12)),
                _Shape(eye.pupil[9:13], (225, 228, 230)),
            ]
        shapes += [_Shape(eye.lid, lash, 2.0 * pixel), _Shape(eye.crease, fold, pixel)]
        shapes.append(_Shape(face.brow(shape, expression, side), brow))
    if expression.brow_furrow > 0.2:
        shapes += [_Shape(crease, dark, 1.4 * pixel) for crease in face.furrows(expression)]
    mouth = face.mouth(shape, expression)
    shapes.append(_Shape(mouth.lips, look.lips))
    if mouth.inside is not None and mouth.teeth is not None:
        shapes += [_Shape(mouth.inside, (70, 22, 26)), _Shape(mouth.teeth, (238, 234, 224))]
    else:
        shapes.append(_Shape(mouth.seam, mix(look.lips, (60, 15, 20), 0.6), 1.3 * pixel))
    shapes += [_Shape(line, mix(skin, (70, 30, 30), 0.5), 1.2 * pixel) for line in mouth.folds]
    if look.glasses:
        frame = (35, 30, 30)
        rims = (face.disc(side * shape.eye_spacing, 0.0, 0.27, 0.2) for side in _SIDES)
        shapes += [_Shape(rim, frame, 1.4 * pixel, closed=True) for rim in rims]
        shapes.append(_Shape(np.array([[-0.14, -0.04], [0.14, -0.04]]), frame, 1.4 * pixel))
    return shapes


def _shade(image: ByteArray, head: _Head, backdrop: Backdrop) -> None:
    """Darkens the head's far side, in place."""
    height, width = image.shape[:2]
    left, top = np.floor(head.centre - head.half).astype(int)
    right, bottom = np.ceil(head.centre + head.half).astype(int)
    if right - left < 4 or bottom - top < 4 or right <= 0 or bottom <= 0 or left >= width or top >= height:
        return
    shade = cv2.resize(sphere_shade(round(backdrop.light_x, 2), round(backdrop.light, 2)), (right - left, bottom - top))
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    patch = image[rows, columns]
    part = shade[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    cv2.multiply(patch, part, patch, 1.0 / 255.0)


def _draw_hand(image: ByteArray, body_x: float, head: tuple[float, float], head_px: float, person: Person) -> None:
    look, pose = person.appearance, person.pose
    side = float(pose.hand_side)
    raised = np.array([head[0] + side * 0.56 * head_px, head[1] + 0.3 * head_px])
    rest = np.array([body_x + side * 0.9 * head_px, image.shape[0] + 0.5 * head_px])
    palm = rest + pose.hand * (raised - rest)
    elbow = np.array([body_x + side * 1.05 * head_px, image.shape[0] + 0.4 * head_px])
    skin = mix(look.skin, (255, 235, 220), 0.08)
    stroke(image, np.stack([palm + np.array([0.0, 0.1 * head_px]), elbow]), look.shirt, 0.26 * head_px)
    stroke(image, np.stack([palm, palm + 0.12 * (elbow - palm)]), skin, 0.17 * head_px)
    fill(image, face.disc(0.0, 0.0, 0.13, 0.15) * head_px + palm, skin)
    for finger, (lean, length) in enumerate([(-0.5, 0.24), (-0.18, 0.3), (0.12, 0.3), (0.42, 0.25)]):
        tip = palm + head_px * np.array([length * np.sin(lean), -0.08 - length * np.cos(lean)])
        root = palm + head_px * np.array([0.06 * (finger - 1.5), -0.06])
        stroke(image, np.stack([root, tip]), skin, 0.06 * head_px)
        stroke(image, np.stack([root, root + 0.55 * (tip - root)]), mix(skin, (90, 45, 40), 0.3), 1.0)
