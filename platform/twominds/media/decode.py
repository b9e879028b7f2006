"""From a file to the frames that are needed of it, and no more (PyAV over FFmpeg).

Uniform, here and everywhere: the clip's time on screen, from its first frame to the end of its last, is cut into T
equal segments, and each gives the frame that is on the screen at its midpoint, that is the last one presented at or
before it. Presentation time stamps alone count, so a variable frame rate needs no case of its own; a clip with fewer
frames than T repeats some. Times are whole ticks of the stream's own clock, so none is decided by rounding.

What the time stamps are worth, and when the last frame ends, `timeline` finds out.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, groupby
from typing import Any, Literal, cast

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from twominds.errors import MediaError
from twominds.media.container import MediaFile
from twominds.media.cursor import FrameCursor
from twominds.media.timeline import read_timeline
from twominds.media.tracks import choice, picture_tracks
from twominds.records import ByteArray

SceneFit = Literal["squeeze", "crop"]
"""How a frame becomes a square: all of it, or the middle of it after its shorter side was resized to the square's."""

Wanted = tuple[int, str]
"""A tick, and what for: `scene` or `face`."""
Drawn = tuple[str, ByteArray | None]
Draw = Callable[[VideoFrame, str], ByteArray]

_SHARES = 4
"""A picture is decoded by at most so many threads."""
_LONGEST_TO_SHORTEST = 16
"""A longer frame is squeezed to this before it is cropped: what is resized stays small."""
_PIXEL_SHAPES = (Fraction(1, 4), Fraction(4))
"""Wider or narrower pixels are damage, and taken for square."""
_IMAGE_CODECS = ("mjpeg", "png", "apng", "gif", "bmp", "tiff", "webp", "jpeg2000", "jpegls", "jpegxl")
"""A single frame of these is a photo."""
_SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same on every CPU


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file holds."""

    duration_s: float
    """Time on screen, by the packets and not by the header; 0 without a picture."""
    width: int
    """Pixels, as displayed (square, after rotation); 0 without a picture."""
    height: int
    frames_per_s: float | None
    """Mean rate that the container states; None where it states none."""
    has_picture: bool
    has_sound: bool
    has_subtitles: bool


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Frames of a clip, uniform over it, by the definition at the top of this module."""

    start_s: float
    """When the first frame is shown, in the container's own time."""
    duration_s: float
    scene: ByteArray
    """[T, size, size, 3] RGB."""
    faces: tuple[ByteArray, ...]
    """F frames [H, W, 3] RGB, long side at most `max_side_px`; repeated frames are one array."""
    decoded_frames: int
    """How many frames the decoder was asked for."""
    warnings: tuple[str, ...] = ()
    """What was chosen among several tracks."""

    @property
    def end_s(self) -> float:
        """When the last frame ends, in the container's own time."""
        return self.start_s + self.duration_s


def uniform_positions(first: int, end: int, count: int) -> list[int]:
    """Midpoints of `count` equal segments of [first, end), rounded down to whole ticks (or indices)."""
    return [first + (end - first) * (2 * k + 1) // (2 * count) for k in range(count)]


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


def _scene_image(frame: VideoFrame, stream: VideoStream, side: int, fit: SceneFit) -> ByteArray:
    if fit == "squeeze":
        return as_displayed(frame, side, side)
    width, height = displayed_size(frame, stream)
    shortest = min(width, height)
    width, height = (min(side * length // shortest, _LONGEST_TO_SHORTEST * side) for length in (width, height))
    image = as_displayed(frame, width, height)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def _face_image(frame: VideoFrame, stream: VideoStream, max_side: int) -> ByteArray:
    width, height = displayed_size(frame, stream)
    scale = min(1.0, max_side / max(width, height))
    return as_displayed(frame, max(1, round(width * scale)), max(1, round(height * scale)))


@contextmanager
def _opened(file: MediaFile) -> Generator[FrameCursor | None]:
    """A cursor over the best picture of which a frame decodes.

    Raises:
        MediaError: the file is a photo, or most of its frames are too large.
    """
    for number in count():
        with file.container() as container:
            tracks = picture_tracks(container)
            if number == len(tracks):
                yield None
                return
            index, has_sound = tracks[number].index, bool(container.streams.audio)
            is_image = tracks[number].codec_context.name in _IMAGE_CODECS
        timeline = read_timeline(file, index)
        if is_image and timeline.frames == 1:
            if not has_sound:
                raise file.photo()
            continue  # a cover
        with file.container() as container:  # from its start: not every container can go back there
            stream = cast(VideoStream, container.streams[index])
            cursor = FrameCursor(container, stream, timeline)
            if cursor.at(cursor.first) is not None:
                yield cursor
                return
            _check_limit(file, cursor)


def probe(file: MediaFile) -> VideoInfo:
    """What the file holds, by its packets and its first frame.

    Raises:
        MediaError: it is no video and no sound file, a photo, or its picture is too large.
    """
    with file.container() as container:
        sound, subtitles = bool(container.streams.audio), bool(container.streams.subtitles)
    with _opened(file) as cursor:
        frame = cursor.at(cursor.first) if cursor else None
        if not (cursor and frame):
            return VideoInfo(
                duration_s=0.0,
                width=0,
                height=0,
                frames_per_s=None,
                has_picture=False,
                has_sound=sound,
                has_subtitles=subtitles,
            )
        rate = cursor.stream.average_rate
        height, width = as_displayed(frame, *displayed_size(frame, cursor.stream)).shape[:2]
        return VideoInfo(
            duration_s=cursor.duration_s,
            width=width,
            height=height,
            frames_per_s=float(rate) if rate else None,
            has_picture=True,
            has_sound=sound,
            has_subtitles=subtitles,
        )


def sample_pictures(
    file: MediaFile,
    *,
    scene_frames: int = 16,
    scene_size_px: int = 224,
    scene_fit: SceneFit = "squeeze",
    face_frames: int = 30,
    max_side_px: int = 1280,
    threads: int = 1,
) -> Pictures | None:
    """Frames for the scene and for the faces, in one pass over the file.

    Holds one decoded frame a thread at a time beside its result, however long the file. The number of threads changes
    no pixel. They help where the file's index names its key frames, and the frames that are wanted need several.

    Returns:
        None where the file has no moving picture or no frame of it decodes.

    Raises:
        MediaError: the file is no video and no sound file, a photo, or its picture is too large.
    """
    with _opened(file) as cursor:
        if cursor is None:
            return None
        wanted = sorted(
            [(tick, "scene") for tick in uniform_positions(cursor.first, cursor.end, scene_frames)]
            + [(tick, "face") for tick in uniform_positions(cursor.first, cursor.end, face_frames)]
        )

        def draw(frame: VideoFrame, use: str) -> ByteArray:
            if use == "scene":
                return _scene_image(frame, cursor.stream, scene_size_px, scene_fit)
            return _face_image(frame, cursor.stream, max_side_px)

        images: dict[str, list[ByteArray]] = {"scene": [], "face": []}
        for use, image in _drawn(file, cursor, wanted, draw, threads):
            if image is None:
                return None
            images[use].append(image)
        _check_limit(file, cursor)
        return Pictures(
            start_s=cursor.start_s,
            duration_s=cursor.duration_s,
            scene=np.stack(images["scene"]),
            faces=tuple(images["face"]),
            decoded_frames=cursor.decoded_frames,
            warnings=choice("picture", picture_tracks(cursor.container), cursor.stream),
        )


def _drawn(file: MediaFile, cursor: FrameCursor, wanted: Sequence[Wanted], draw: Draw, threads: int) -> list[Drawn]:
    """Each of the wanted images, in order; None where no frame decodes.

    The runs of frames that `cursor` tells apart are cut into shares, each with a cursor of its own; `cursor` adds up
    what they decoded. As many shares for one thread as for several: damage in one run may reach the next.
    """
    runs = [list(run) for _, run in groupby(wanted, key=lambda item: cursor.run_of(item[0]))]
    shares = min(_SHARES, len(runs))
    cuts = [len(runs) * share // shares for share in range(shares + 1)]

    def of_share(share: int) -> tuple[FrameCursor, list[Drawn]]:
        items = [item for run in runs[cuts[share] : cuts[share + 1]] for item in run]
        if share == 0:
            return cursor, _drawn_by(cursor, items, draw)
        with file.container() as container:
            stream = cast(VideoStream, container.streams[cursor.stream.index])
            own = FrameCursor(container, stream, cursor.timeline, first=cursor.first)
            return own, _drawn_by(own, items, draw)

    with ThreadPoolExecutor(min(threads, shares)) as pool:
        parts = list(pool.map(of_share, range(shares)))
    for own, _ in parts[1:]:
        cursor.add(own)
    return [image for _, drawn in parts for image in drawn]


def _drawn_by(cursor: FrameCursor, wanted: Sequence[Wanted], draw: Draw) -> list[Drawn]:
    cursor.expect([tick for tick, _ in wanted])
    drawn: list[Drawn] = []
    last: dict[str, tuple[VideoFrame, ByteArray]] = {}
    for tick, use in wanted:
        frame = cursor.at(tick)
        if frame is None:
            drawn.append((use, None))
            continue
        if use not in last or last[use][0] is not frame:
            last[use] = frame, draw(frame, use)
        drawn.append((use, last[use][1]))
    return drawn


def _check_limit(file: MediaFile, cursor: FrameCursor) -> None:
    """Frames above the limit are passed over like damaged ones; but the few others must not stand for the clip."""
    if cursor.met_limit and cursor.failed_packets > cursor.decoded_frames:
        raise MediaError(
            f"{file.name} has a picture that cannot be decoded: most of its frames are larger than 8192x4320 pixels, "
            "or damaged."
        )
