"""All frames of a clip, or so many a second, in blocks: however long the file, a few are in memory.

A file's own frames are those of its packets, at their presentation times; at a rate, they are the frames that are on
the screen at 0, 1 / rate, 2 / rate, ... from the first frame on, before the end of the last. Either way a frame that
does not decode leaves the one before it on the screen, as in `decode`, so that there are as many as `frame_times` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from twominds.media.container import MediaFile
from twominds.media.cursor import FrameCursor
from twominds.media.decode import check_limit, opened_picture
from twominds.media.images import face_image
from twominds.media.timeline import frame_ticks
from twominds.records import ByteArray, Times

_LARGEST_DENOMINATOR = 1_000_000
"""A rate is the nearest fraction with none above it: 0.1 is a tenth then, and 29.97002997 is 30000 / 1001."""


@dataclass(frozen=True, kw_only=True)
class FrameBlock:
    """Some of a clip's frames, one after another."""

    times_s: Times
    """[n]: when they are shown, in seconds from the clip's first frame."""
    frames: tuple[ByteArray, ...]
    """n frames [H, W, 3] RGB as displayed; one that stays on the screen is one array."""
    total: int
    """How many frames all of the clip's blocks have together."""


def frame_times(file: MediaFile, *, rate_hz: float | None = None) -> Times:
    """When the frames of `frame_blocks` are shown, in seconds from the first one; decodes no other.

    Args:
        file: the opened video.
        rate_hz: frames a second; None: the file's own frames.

    Returns:
        [n] ascending from 0; empty where the file has no moving picture or no frame of it decodes.

    Raises:
        MediaError: the file is no video and no sound file, a photo, or its picture is too large.
    """
    with opened_picture(file) as cursor:
        return np.empty(0) if cursor is None else _wanted(file, cursor, rate_hz)[1]


def regular_times(duration_s: Fraction, rate_hz: float) -> Times:
    """Every k / rate_hz from 0 on that is before `duration_s`."""
    rate = _fraction(rate_hz)
    return np.arange(-int(-duration_s * rate // 1)) * rate.denominator / rate.numerator


def frame_blocks(
    file: MediaFile, *, rate_hz: float | None = None, max_side_px: int = 1280, block_frames: int = 32
) -> Iterator[FrameBlock]:
    """The frames of `frame_times`, in one pass, `block_frames` at a time (fewer in the last block).

    Args:
        file: the file; must stay open as long as blocks are taken.
        rate_hz: frames a second; None: the file's own frames.
        max_side_px: frames are shrunk to this long side.
        block_frames: what a block holds, and about what is in memory.

    Raises:
        MediaError: the file is no video and no sound file, a photo, or its picture is too large; the last may be found
            out only after its last block.
    """
    with opened_picture(file) as cursor:
        if cursor is None:
            return
        ticks, times_s = _wanted(file, cursor, rate_hz)
        shown = cursor.at(cursor.first)
        assert shown is not None  # or the picture would not have been opened
        image = face_image(shown, cursor.stream, max_side_px)
        cursor.expect(ticks)
        for start in range(0, len(ticks), block_frames):
            images: list[ByteArray] = []
            for tick in ticks[start : start + block_frames]:
                frame = cursor.at(tick)
                if frame is not None and frame is not shown:
                    shown, image = frame, face_image(frame, cursor.stream, max_side_px)
                images.append(image)
            times = times_s[start : start + block_frames]
            yield FrameBlock(times_s=times, frames=tuple(images), total=len(ticks))
        check_limit(file, cursor)


def _wanted(file: MediaFile, cursor: FrameCursor, rate_hz: float | None) -> tuple[list[int], Times]:
    """The ticks at which frames are wanted, and the same in seconds from the first frame."""
    first, tick_s = cursor.first, cursor.timeline.tick_s
    if rate_hz is None:
        ticks = frame_ticks(file, cursor.stream.index, cursor.timeline)
        own = ticks[ticks >= first].tolist() or [first]
        return own, cursor.times_of(own)
    times_s = regular_times((cursor.end - first) * tick_s, rate_hz)
    step = 1 / (_fraction(rate_hz) * tick_s)
    return [first + k * step.numerator // step.denominator for k in range(len(times_s))], times_s


def _fraction(rate_hz: float) -> Fraction:
    return Fraction(rate_hz).limit_denominator(_LARGEST_DENOMINATOR)
