"""From a file to the frames that are needed of it, and no more (PyAV over FFmpeg).

Uniform, here and everywhere: the clip's time on screen, from its first frame to the end of its last, is cut into T
equal segments, and each gives the frame that is on the screen at its midpoint, that is the last one presented at or
before it. Presentation time stamps alone count, so a variable frame rate needs no case of its own; a clip with fewer
frames than T repeats some. Times are whole ticks of the stream's own clock, so none is decided by rounding.

What the time stamps are worth, and when the last frame ends, `timeline` finds out.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Any, Literal, cast

import numpy as np
from av.container import InputContainer
from av.error import ArgumentError
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from twominds.errors import MediaError
from twominds.media.container import DECODER_OPTIONS, DECODING_ERRORS, MediaFile, packets_of, read_only, seek
from twominds.media.timeline import Timeline, read_timeline
from twominds.media.tracks import choice, picture_tracks
from twominds.records import ByteArray

SceneFit = Literal["squeeze", "crop"]
"""How a frame becomes a square: all of it, or the middle of it after its shorter side was resized to the square's."""

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")
"""Containers whose index, when there is one, names all key frames."""
_SEEKABLE = (*_INDEXED, "mpegts")
"""Containers in which a seek lands on a key frame with the right time; others (MPEG-PS) are decoded throughout."""
_SEEK_GAP_S = 2.0
"""Where no index tells, seeking is tried over gaps longer than this: most key frames are at most so far apart."""
_SEEK_FRAMES = 12
"""Frames that a seek has to save: it throws away the few that the decoder holds for reordering."""
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


class FrameCursor:
    """Goes through a picture's frames in the order of presentation, seeking where that saves decoding.

    A frame that does not decode, or only in part, is passed over: the one before it stays on the screen.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, timeline: Timeline, *, threads: int = 1) -> None:
        """Stand at the first frame of `stream`, in a container that was just opened."""
        self.decoded_frames = 0
        self.failed_packets = 0
        self.met_limit = False
        """Whether the decoder refused a packet as it refuses frames above its limit."""
        self.container = container
        self.stream = stream
        stream.thread_count = threads
        stream.codec_context.options = DECODER_OPTIONS
        read_only(container, stream)
        self._timeline = timeline
        self._tick_s = timeline.tick_s
        self._indexed = container.format.name in _INDEXED
        self._seek_gap = int(_SEEK_GAP_S / self._tick_s)
        self._may_seek = container.format.name in _SEEKABLE and not timeline.counted
        first = self._restart()
        self.first = timeline.start if first is None else first
        """Tick of the first frame that decodes."""
        self.end = max(timeline.end, self.first + 1)
        """Tick at which the last frame ends."""

    @property
    def start_s(self) -> float:
        """When the first frame is shown, in the container's own time."""
        return self._timeline.zero_s + float(self.first * self._tick_s)

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the end of the last."""
        return float((self.end - self.first) * self._tick_s)

    def at(self, tick: int) -> VideoFrame | None:
        """The frame on the screen at `tick` (ask in ascending order); the first one before it, None if none decodes."""
        if self._next is not None and self._worth_seeking(tick, self._next[0]):
            self._seek(tick, self._next[0])
        while self._next is not None and self._next[0] <= tick:
            self._shown, self._next = self._next, next(self._frames, None)
        found = self._shown or self._next
        return found[1] if found else None

    def _restart(self) -> int | None:
        """Begin to decode where the container stands; the tick of the first frame."""
        self._frames = self._decode()
        self._shown: tuple[int, VideoFrame] | None = None
        self._next = next(self._frames, None)
        return self._next[0] if self._next else None

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        last: int | None = None
        for packet in packets_of(self.container, self.stream):
            try:
                frames = self.stream.decode(cast(Any, packet))
            except DECODING_ERRORS as error:
                self.failed_packets += 1
                self.met_limit |= isinstance(error, ArgumentError)
                continue
            for frame in frames:
                self.decoded_frames += 1
                if frame.is_corrupt:
                    continue
                last = self._time_of(frame, last)
                yield last, frame

    def _time_of(self, frame: VideoFrame, last: int | None) -> int:
        """Frames leave the decoder in the order of presentation; a stamp that says otherwise (AVI) is not believed."""
        for stamp in () if self._timeline.counted else (frame.pts, frame.dts):
            if stamp is not None and (last is None or stamp > last):
                return stamp
        return self._timeline.start if last is None else last + self._timeline.frame_ticks

    def _worth_seeking(self, tick: int, reached: int) -> bool:
        if not self._may_seek or tick <= reached:
            return False
        index = self.stream.index_entries
        if self._indexed and len(index) and index[len(index) - 1].timestamp >= tick:
            entry = index.search_timestamp(tick, backward=True)
            return entry >= 0 and index[entry].timestamp > reached + _SEEK_FRAMES * self._timeline.frame_ticks
        return tick - reached > self._seek_gap

    def _seek(self, tick: int, reached: int) -> None:
        """Jump to a key frame before `tick`; where there is no landing, go back and never try again."""
        back = 0
        while tick - back > reached:
            if not seek(self.container, self.stream, tick - back):
                break
            landed = self._restart()
            if landed is not None and landed <= tick:
                if landed <= reached:  # key frames are further apart than the gap
                    self._seek_gap *= 2
                return
            back = max(int(1 / self._tick_s), 2 * back)
        self._may_seek = False
        start = self._timeline.start  # MPEG program streams, asked for its very tick, begin after it
        if not seek(self.container, self.stream, start - int(1 / self._tick_s)):
            seek(self.container, self.stream, start)
        self._restart()


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
def _opened(file: MediaFile, threads: int) -> Generator[FrameCursor | None]:
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
            cursor = FrameCursor(container, stream, timeline, threads=threads)
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
    with _opened(file, 1) as cursor:
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

    Holds one decoded frame at a time beside its result, however long the file.

    Returns:
        None where the file has no moving picture or no frame of it decodes.

    Raises:
        MediaError: the file is no video and no sound file, a photo, or its picture is too large.
    """
    with _opened(file, threads) as cursor:
        if cursor is None:
            return None
        wanted = sorted(
            [(tick, "scene") for tick in uniform_positions(cursor.first, cursor.end, scene_frames)]
            + [(tick, "face") for tick in uniform_positions(cursor.first, cursor.end, face_frames)]
        )
        images: dict[str, list[ByteArray]] = {"scene": [], "face": []}
        last: dict[str, VideoFrame] = {}
        for tick, use in wanted:
            frame = cursor.at(tick)
            if frame is None:
                return None
            if last.get(use) is frame:
                images[use].append(images[use][-1])
                continue
            last[use] = frame
            if use == "scene":
                images[use].append(_scene_image(frame, cursor.stream, scene_size_px, scene_fit))
            else:
                images[use].append(_face_image(frame, cursor.stream, max_side_px))
        _check_limit(file, cursor)
        return Pictures(
            start_s=cursor.start_s,
            duration_s=cursor.duration_s,
            scene=np.stack(images["scene"]),
            faces=tuple(images["face"]),
            decoded_frames=cursor.decoded_frames,
            warnings=choice("picture", picture_tracks(cursor.container), cursor.stream),
        )


def _check_limit(file: MediaFile, cursor: FrameCursor) -> None:
    """Frames above the limit are passed over like damaged ones; but the few others must not stand for the clip."""
    if cursor.met_limit and cursor.failed_packets > cursor.decoded_frames:
        raise MediaError(
            f"{file.name} has a picture that cannot be decoded: most of its frames are larger than 8192x4320 pixels, "
            "or damaged."
        )
