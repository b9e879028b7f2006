"""From a stored frame to the image that is looked at: its size, its pixels' shape, how it is turned."""

from fractions import Fraction
from typing import Any, Literal, cast

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from twominds.records import ByteArray

SceneFit = Literal["squeeze", "crop"]
"""How a frame becomes a square: all of it, or the middle of it after its shorter side was resized to the square's."""

_LONGEST_TO_SHORTEST = 16
"""A longer frame is squeezed to this before it is cropped: what is resized stays small."""
_PIXEL_SHAPES = (Fraction(1, 4), Fraction(4))
"""Wider or narrower pixels are damage, and taken for square."""
_SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same on every CPU


def as_displayed(frame: VideoFrame, width: int, height: int) -> ByteArray:
    """RGB [height, width, 3] of a stored frame, scaled, then turned and mirrored as the file says it is displayed.

    `width` and `height` are those before turning.
    """
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation=_SCALING, threads=1)
    image = cast(ByteArray, scaled.to_ndarray())
    matrix = cast(Any, frame.side_data).get(SideDataType.DISPLAYMATRIX)
    if matrix is not None:
        # FFmpeg's display matrix takes (x, y) to (a x + c y, b x + d y), here always a multiple of a quarter turn.
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
        across, down = a, d
        if abs(a) < abs(b):
            image = image.transpose(1, 0, 2)
            across, down = c, b
        image = image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(image)


def displayed_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of a stored frame with square pixels, before it is turned."""
    shape = stream.sample_aspect_ratio or Fraction(1)
    least, most = _PIXEL_SHAPES
    return max(1, round(frame.width * (shape if least <= shape <= most else 1))), frame.height


def scene_image(frame: VideoFrame, stream: VideoStream, side: int, fit: SceneFit) -> ByteArray:
    """RGB [side, side, 3] of a frame for the scene, `fit` into the square."""
    if fit == "squeeze":
        return as_displayed(frame, side, side)
    width, height = displayed_size(frame, stream)
    shortest = min(width, height)
    width, height = (min(side * length // shortest, _LONGEST_TO_SHORTEST * side) for length in (width, height))
    image = as_displayed(frame, width, height)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def face_image(frame: VideoFrame, stream: VideoStream, max_side: int) -> ByteArray:
    """RGB [H, W, 3] of a frame as displayed, shrunk to a long side of `max_side`: what faces are looked for in."""
    width, height = displayed_size(frame, stream)
    scale = min(1.0, max_side / max(width, height))
    return as_displayed(frame, max(1, round(width * scale)), max(1, round(height * scale)))
