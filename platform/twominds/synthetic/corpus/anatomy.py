"""The geometry of a drawn face: polygons in face coordinates, from anatomy and expression.

Face coordinates: the head is the unit disc seen from the front, x to the viewer's right, y down, y = -1 the top of
the skull and +1 the chin. Every function returns float64 points [n, 2], which `drawing` turns with the head and fills;
those that depend on the anatomy alone are computed once, and not to be written to.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Side = Literal[-1, 1]

_EYE_Y = -0.02
_MOUTH_Y = 0.54
_ARC = np.linspace(0.0, np.pi, 9)
_BOW, _ARC_X = np.sin(_ARC), np.cos(_ARC)
_ALONG = np.linspace(0.0, 1.0, 7)
_RING = np.linspace(0.0, 2.0 * np.pi, 14, endpoint=False)
_RING_X, _RING_Y = np.cos(_RING), np.sin(_RING)
_RIM = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Proportions of a face."""

    aspect: float = 0.76
    """Width over height of the head."""
    jaw: float = 0.25
    """0 round .. 0.5 narrow chin."""
    eye_spacing: float = 0.4
    """Distance of an eye from the middle."""
    eye_size: float = 1.0
    brow_weight: float = 1.0
    nose_length: float = 1.0
    mouth_width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What the face does. All at rest by default."""

    mouth_open: float = 0.0
    """0 closed .. 1 wide."""
    smile: float = 0.0
    """-1 corners down .. 1 broad smile."""
    lip_press: float = 0.0
    """0 relaxed .. 1 lips pressed to a line."""
    brow_raise: float = 0.0
    """-1 lowered .. 1 raised."""
    brow_furrow: float = 0.0
    """0 smooth .. 1 inner ends drawn together and down, with creases between them."""
    eye_open: float = 1.0
    """0 shut .. 1 open."""
    gaze_x: float = 0.0
    """-1 far left .. 1 far right."""
    gaze_y: float = 0.0
    """-1 up .. 1 down."""
    flush: float = 0.0
    """-1 pale .. 0 the skin's own colour .. 1 red in the face."""


@dataclass(frozen=True)
class Eye:
    """One eye's shapes; those between the lids are degenerate when it is shut."""

    opening: Points
    """What shows between the lids."""
    iris: Points
    pupil: Points
    lid: Points
    """The upper lash line."""
    crease: Points
    """The line of the upper lid's fold."""


@dataclass(frozen=True)
class Mouth:
    """The mouth's shapes."""

    lips: Points
    inside: Points | None
    """The opening; None while shut."""
    teeth: Points | None
    seam: Points
    """Where the lips meet, drawn while shut."""
    folds: tuple[Points, ...]
    """Lines from the nose to the corners of a broad smile or a frown."""


def _stack(x: npt.ArrayLike, y: npt.ArrayLike) -> Points:
    points = np.empty((max(np.size(x), np.size(y)), 2))
    points[:, 0] = x
    points[:, 1] = y
    return points


def disc(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    """An ellipse around (x, y)."""
    return _stack(x + radius_x * _RING_X, y + radius_y * _RING_Y)


@lru_cache(maxsize=256)
def outline(anatomy: Anatomy, grow: float = 1.0) -> Points:
    """The silhouette of the head, scaled by `grow`."""
    x, y = np.cos(_RIM), np.sin(_RIM)
    narrowed = x * (1.0 - anatomy.jaw * np.clip(y, 0.0, None) ** 2)
    return _stack(grow * narrowed, grow * y)


@lru_cache(maxsize=256)
def hair_cap(hairline: float) -> Points:
    """Hair over the skull from ear to ear; `hairline` is where the forehead begins (about -0.55)."""
    outer = np.linspace(np.pi + 0.02, 2.0 * np.pi - 0.02, 22)
    inner = np.linspace(0.98, -0.98, 17)
    dip = hairline + (0.1 - hairline) * np.abs(inner) ** 5
    return np.concatenate([_stack(1.06 * np.cos(outer), 1.08 * np.sin(outer)), _stack(inner, dip)])


@lru_cache(maxsize=256)
def beard(anatomy: Anatomy) -> Points:
    """The lower face from ear to ear, below the cheeks."""
    rim = np.linspace(-0.1, np.pi + 0.1, 20)
    x, y = np.cos(rim), np.sin(rim)
    top = np.linspace(-0.9, 0.9, 13)
    return np.concatenate(
        [
            _stack(x * (1.0 - anatomy.jaw * np.clip(y, 0.0, None) ** 2), y),
            _stack(top, 0.36 - 0.3 * np.abs(top) ** 3),
        ]
    )


def brow(anatomy: Anatomy, expression: Expression, side: Side) -> Points:
    """One eyebrow, from its inner end to its outer end and back."""
    furrow, raised = expression.brow_furrow, expression.brow_raise
    inner = anatomy.eye_spacing - 0.2 - 0.07 * furrow
    x = inner + _ALONG * 0.42
    y = _EYE_Y - 0.25 - 0.11 * raised - 0.07 * np.sin(np.pi * (0.25 + 0.6 * _ALONG))
    y = y + 0.15 * furrow * (1.0 - _ALONG) ** 1.5
    thickness = 0.045 * anatomy.brow_weight * (1.0 + 0.35 * furrow) * (1.0 - 0.6 * _ALONG)
    upper, lower = _stack(side * x, y - thickness), _stack(side * x, y + thickness)
    return np.concatenate([upper, lower[::-1]])


def furrows(expression: Expression) -> tuple[Points, ...]:
    """The two upright creases between the brows."""
    y = np.linspace(_EYE_Y - 0.34, _EYE_Y - 0.34 + 0.24 * expression.brow_furrow, 3)
    return tuple(_stack(side * np.array([0.06, 0.05, 0.07]), y) for side in (-1, 1))


def eye(anatomy: Anatomy, expression: Expression, side: Side) -> Eye:
    """One eye of the face, open and turned as the expression says."""
    width, height = 0.165 * anatomy.eye_size, 0.1 * anatomy.eye_size
    centre_x = side * anatomy.eye_spacing
    squint = 0.35 * max(expression.smile, 0.0) + 0.2 * expression.brow_furrow
    upper = height * expression.eye_open
    lower = 0.75 * height * (1.0 - squint)
    x = centre_x - width * _ARC_X
    floor = _EYE_Y + lower * _BOW
    lid_y = np.minimum(_EYE_Y + (lower * 0.6) * (1.0 - expression.eye_open) - upper * _BOW, floor)
    iris_x, iris_y = centre_x + 0.085 * expression.gaze_x, _EYE_Y - 0.01 + 0.045 * expression.gaze_y

    def between_lids(radius: float) -> Points:
        ring = disc(iris_x, iris_y, radius / anatomy.aspect, radius)
        ring[:, 0] = np.clip(ring[:, 0], x[0], x[-1])
        ring[:, 1] = np.clip(ring[:, 1], np.interp(ring[:, 0], x, lid_y), np.interp(ring[:, 0], x, floor))
        return ring

    radius = 0.082 * anatomy.eye_size
    return Eye(
        opening=np.concatenate([_stack(x, lid_y), _stack(x[::-1], floor[::-1])]),
        iris=between_lids(radius),
        pupil=between_lids(0.5 * radius),
        lid=_stack(x, lid_y),
        crease=_stack(x, np.minimum(lid_y, _EYE_Y) - 0.045),
    )


@lru_cache(maxsize=256)
def nose(anatomy: Anatomy) -> tuple[Points, Points, Points]:
    """The shaded side of the bridge, the tip's lower edge, and the two nostrils' line."""
    tip = _EYE_Y + 0.33 * anatomy.nose_length
    bridge = _stack([0.03, 0.06, 0.13, 0.03], [_EYE_Y - 0.02, tip - 0.12, tip, tip])
    wings = _stack([-0.15, -0.13, -0.05, 0.0, 0.05, 0.13, 0.15], tip + np.array([-0.05, 0.0, 0, 0.03, 0, 0.0, -0.05]))
    highlight = _stack([-0.02, 0.02, 0.03, -0.03], [_EYE_Y + 0.05, _EYE_Y + 0.05, tip - 0.04, tip - 0.04])
    return bridge, wings, highlight


def mouth(anatomy: Anatomy, expression: Expression) -> Mouth:
    """The mouth of the face, as the expression says."""
    smile, press, gap = expression.smile, expression.lip_press, expression.mouth_open * (1.0 - expression.lip_press)
    width = 0.29 * anatomy.mouth_width * (1.0 + 0.24 * smile * (smile > 0) - 0.18 * gap + 0.1 * press)
    bow = _BOW
    x = -width * _ARC_X
    bend = 0.13 * smile
    middle = _MOUTH_Y + bend * (bow - 0.6)
    upper_thickness, lower_thickness = 0.065 * (1.0 - 0.85 * press), 0.085 * (1.0 - 0.85 * press)
    lift, drop = 0.05 * gap * bow, 0.24 * gap * bow
    upper_edge = middle - lift - upper_thickness * bow * (1.0 - 0.25 * np.exp(-((x / 0.05) ** 2)))
    lower_edge = middle + drop + lower_thickness * bow
    lips = np.concatenate([_stack(x, upper_edge), _stack(x[::-1], lower_edge[::-1])])
    inside = teeth = None
    if gap > 0.06:
        inside = np.concatenate([_stack(0.92 * x, middle - lift), _stack(0.92 * x[::-1], (middle + drop)[::-1])])
        bite = np.minimum(0.06 * bow, 0.5 * (lift + drop))
        teeth = np.concatenate([_stack(0.8 * x, middle - lift), _stack(0.8 * x[::-1], (middle - lift + bite)[::-1])])
    folds: tuple[Points, ...] = ()
    if abs(smile) > 0.25 or press > 0.5:
        start, end = _MOUTH_Y - 0.22, _MOUTH_Y - 0.02 - (0.4 * bend)
        folds = tuple(
            _stack(side * np.array([0.19, 0.19 + 0.6 * width, width + 0.08]), [start, (start + end) / 2 - 0.02, end])
            for side in (-1, 1)
        )
    return Mouth(lips=lips, inside=inside, teeth=teeth, seam=_stack(x, middle), folds=folds)
