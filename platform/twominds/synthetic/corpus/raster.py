"""Antialiased shapes on a picture, in sub-pixel coordinates."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from twominds.records import ByteArray
from twominds.synthetic.corpus.anatomy import Points

Colour = tuple[int, int, int]
"""RGB, 0-255."""

_SUBPIXEL_BITS = 4


@lru_cache(maxsize=4096)
def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _fixed_point(points: Points) -> npt.NDArray[np.int32]:
    return (points * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def fill(image: ByteArray, points: Points, colour: Colour) -> None:
    """Fills a polygon, in place."""
    cv2.fillPoly(image, [_fixed_point(points)], colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def stroke(image: ByteArray, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
    """Draws a line of `width` pixels, in place."""
    thickness = max(round(width), 1)
    cv2.polylines(image, [_fixed_point(points)], closed, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
