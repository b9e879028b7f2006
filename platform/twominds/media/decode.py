"""From a file to the frames and the sound that are needed of it, and no more (PyAV over FFmpeg).

Uniform, here and everywhere: the clip's time on screen, from its first frame to the end of its last, is cut into T
equal segments, and each gives the frame that is on the screen at its midpoint, that is the last one presented at or
before it. Presentation time stamps alone count, so a variable frame rate needs no case of its own; a clip with fewer
frames than T repeats some. Times are whole ticks of the stream's own clock, so none is decided by rounding.

What a header says of a file's length is checked against the packets at its end before it is believed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from twominds.errors import MediaError
from twominds.media.container import MediaFile, packets_of, picture_stream, read_only
from twominds.records import ByteArray, FloatArray

SAMPLE_RATE_HZ = 16_000

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")
"""Containers whose index, when there is one, names all key frames."""
_SEEKABLE = (*_INDEXED, "mpegts")
"""Containers in which a seek lands on a key frame with the right time; others (MPEG-PS) are decoded throughout."""
_SEEK_GAP_S = 2.0
"""Where no index tells, seeking is tried over gaps longer than this: most key frames are at most so far apart."""
_SEEK_FRAMES = 12
"""Frames that a seek has to save: it throws away the few that the decoder holds for reordering."""
_MAX_PIXELS = 8192 * 4320
_MAX_CHANNELS = 8
_SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same on every CPU
_BROKEN = (FFmpegError, EOFError, RuntimeError)
"""What PyAV raises on damaged data (RuntimeError: FFmpeg has no decoder for the stream)."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file holds."""

    duration_s: float
    """Time on screen, by the packets and not by the header; 0 without a picture."""
    width: int
    """Pixels, as displayed (after rotation); 0 without a picture."""
    height: int
    frames_per_s: float | None
    """Mean rate that the container states; None where it states none."""
    has_picture: bool
    has_sound: bool
    has_subtitles: bool


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Frames of a clip, uniform over it, by the definition at the top of this module."""

    duration_s: float
    scene: ByteArray
    """[T, size, size, 3] RGB, resized without keeping the aspect ratio."""
    faces: tuple[ByteArray, ...]
    """F frames [H, W, 3] RGB, long side at most `max_side_px`; repeated frames are one array."""
    decoded_frames: int
    """How many frames the decoder was asked for."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A clip's sound."""

    samples: FloatArray
    """[N] mono at 16 kHz, in [-1, 1]; the channels' mean."""
    truncated: bool
    """The file goes on after `max_s`."""


def uniform_positions(first: int, end: int, count: int) -> list[int]:
    """Midpoints of `count` equal segments of [first, end), rounded down to whole ticks (or indices)."""
    return [first + (end - first) * (2 * k + 1) // (2 * count) for k in range(count)]


class FrameCursor:
    """Goes through a picture's frames in the order of presentation, seeking where that saves decoding.

    A frame that does not decode, or only in part, is passed over: the one before it stays on the screen.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, threads: int = 1) -> None:
        """Stand at the first frame of `stream`."""
        self.decoded_frames = 0
        self._container = container
        self.stream = stream
        stream.thread_count = threads
        read_only(container, stream)
        self._tick = stream.time_base or Fraction(1, 90_000)
        self._frame_ticks = max(1, round(1 / (stream.average_rate or 25) / self._tick))
        self._indexed = container.format.name in _INDEXED
        self._seek_gap = int(_SEEK_GAP_S / self._tick)
        self._may_seek = container.format.name in _SEEKABLE
        end = self._find_end()
        first = self._restart(self._before_start())
        self.first = self._stated_start() if first is None else first
        """Tick of the first frame that decodes."""
        self.end = max(end, self.first + 1)
        """Tick at which the last frame ends."""

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the end of the last."""
        return float((self.end - self.first) * self._tick)

    def at(self, tick: int) -> VideoFrame | None:
        """The frame on the screen at `tick` (ask in ascending order); the first one before it, None if none decodes."""
        if self._next is not None and self._worth_seeking(tick, self._next[0]):
            self._seek(tick, self._next[0])
        while self._next is not None and self._next[0] <= tick:
            self._shown, self._next = self._next, next(self._frames, None)
        found = self._shown or self._next
        return found[1] if found else None

    def _stated_start(self) -> int:
        return self.stream.start_time or 0

    def _before_start(self) -> int:
        """Where to seek for the first frame: MPEG program streams, asked for its very tick, begin after it."""
        return self._stated_start() - int(1 / self._tick)

    def _find_end(self) -> int:
        """End of the last packet. Near where the header puts it, else, if nothing is there, by reading all packets."""
        stated = self.stream.duration
        if stated is None and self._container.duration is not None:
            stated = int(Fraction(self._container.duration, av.time_base) / self._tick)
        if stated is not None and self._may_seek and self._seek_to(self._stated_start() + stated):
            end = self._last_packet_end()
            if end is not None:
                return end
        if not self._seek_to(self._before_start()):
            self._seek_to(self._stated_start())
        end = self._last_packet_end()
        return self._stated_start() + self._frame_ticks if end is None else end

    def _last_packet_end(self) -> int | None:
        end: int | None = None
        for packet in packets_of(self._container, self.stream):
            if packet.pts is not None and packet.size and not packet.is_discard:
                after = packet.pts + (packet.duration or self._frame_ticks)
                end = after if end is None else max(end, after)
        return end

    def _seek_to(self, tick: int) -> bool:
        try:
            self._container.seek(tick, stream=self.stream)
        except (FFmpegError, EOFError):
            return False
        return True

    def _restart(self, tick: int) -> int | None:
        """Begin to decode at the key frame before `tick`; the tick of the first frame."""
        if not self._seek_to(tick):
            self._seek_to(self._stated_start())
        self._frames = self._decode()
        self._shown: tuple[int, VideoFrame] | None = None
        self._next = next(self._frames, None)
        return self._next[0] if self._next else None

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        last: int | None = None
        for packet in packets_of(self._container, self.stream):
            try:
                frames = self.stream.decode(cast(Any, packet))
            except _BROKEN:
                continue
            for frame in frames:
                self.decoded_frames += 1
                if frame.is_corrupt:
                    continue
                last = self._time_of(frame, last)
                yield last, frame

    def _time_of(self, frame: VideoFrame, last: int | None) -> int:
        """Frames leave the decoder in the order of presentation; a stamp that says otherwise (AVI) is not believed."""
        for stamp in (frame.pts, frame.dts):
            if stamp is not None and (last is None or stamp > last):
                return stamp
        return self._stated_start() if last is None else last + self._frame_ticks

    def _worth_seeking(self, tick: int, reached: int) -> bool:
        if not self._may_seek or tick <= reached:
            return False
        index = self.stream.index_entries
        if self._indexed and len(index) and index[len(index) - 1].timestamp >= tick:
            entry = index.search_timestamp(tick, backward=True)
            return entry >= 0 and index[entry].timestamp > reached + _SEEK_FRAMES * self._frame_ticks
        return tick - reached > self._seek_gap

    def _seek(self, tick: int, reached: int) -> None:
        """Jump to a key frame before `tick`; where there is no landing, go back and never try again."""
        back = 0
        while tick - back > reached:
            landed = self._restart(tick - back)
            if landed is not None and landed <= tick:
                if landed <= reached:  # key frames are further apart than the gap
                    self._seek_gap *= 2
                return
            back = max(int(1 / self._tick), 2 * back)
        self._may_seek = False
        self._restart(self._before_start())


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


def _cursor(file: MediaFile, container: InputContainer, threads: int) -> FrameCursor | None:
    stream = picture_stream(container)
    if stream is None:
        return None
    if stream.width * stream.height > _MAX_PIXELS:
        raise MediaError(
            f"The picture of {file.name}, {stream.width}x{stream.height} pixels, is larger than 8192x4320."
        )
    return FrameCursor(container, stream, threads=threads)


def probe(file: MediaFile) -> VideoInfo:
    """What the file holds, by its packets and its first frame.

    Raises:
        MediaError: it is no video and no sound file.
    """
    with file.container() as container:
        sound, subtitles = bool(container.streams.audio), bool(container.streams.subtitles)
        cursor = _cursor(file, container, 1)
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
        height, width = as_displayed(frame, frame.width, frame.height).shape[:2]
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
    face_frames: int = 30,
    max_side_px: int = 1280,
    threads: int = 1,
) -> Pictures | None:
    """Frames for the scene and for the faces, in one pass over the file.

    Holds one decoded frame at a time beside its result, however long the file.

    Returns:
        None where the file has no moving picture or no frame of it decodes.

    Raises:
        MediaError: the file is no video and no sound file, or its picture is too large.
    """
    with file.container() as container:
        cursor = _cursor(file, container, threads)
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
                width = height = scene_size_px
            else:
                scale = min(1.0, max_side_px / max(frame.width, frame.height))
                width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
            images[use].append(as_displayed(frame, width, height))
        return Pictures(
            duration_s=cursor.duration_s,
            scene=np.stack(images["scene"]),
            faces=tuple(images["face"]),
            decoded_frames=cursor.decoded_frames,
        )


def read_sound(file: MediaFile, *, max_s: float = 600.0) -> Sound | None:
    """The file's sound, at most its first `max_s` seconds, decoded piece by piece.

    Returns:
        None where there is no sound track; no samples where there is one and nothing of it decodes.

    Raises:
        MediaError: the file is no video and no sound file.
    """
    limit = int(max_s * SAMPLE_RATE_HZ)
    pieces: list[FloatArray] = []
    count = 0
    with file.container() as container:
        stream = container.streams.best("audio")
        if stream is None:
            return None
        read_only(container, stream)
        for piece in _resampled(_audio_frames(container, stream)):
            pieces.append(piece[: limit - count])
            count += len(piece)
            if count > limit:
                break
    samples = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    return Sound(samples=samples, truncated=count > limit)


def _audio_frames(container: InputContainer, stream: Stream) -> Iterator[AudioFrame]:
    for packet in packets_of(container, stream):
        try:
            yield from cast(Sequence[AudioFrame], cast(Any, stream).decode(packet))
        except _BROKEN:
            continue


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[FloatArray]:
    """Mono pieces at 16 kHz. The channels' mean is taken here: FFmpeg's own downmix of floats can exceed 1."""
    resampler: AudioResampler | None = None
    form: tuple[str, str, int] | None = None
    for frame in frames:
        if frame.layout.nb_channels > _MAX_CHANNELS:  # damaged AAC can claim 17, on which the resampler crashes
            continue
        if form != (frame.format.name, frame.layout.name, frame.sample_rate):  # also in the middle of some streams
            yield from _mono(resampler, None)
            form = (frame.format.name, frame.layout.name, frame.sample_rate)
            resampler = AudioResampler(format="fltp", layout=frame.layout.name, rate=SAMPLE_RATE_HZ)
        frame.pts = None  # sample counts make the time: stamps with gaps would make the resampler complain
        yield from _mono(resampler, frame)
    yield from _mono(resampler, None)


def _mono(resampler: AudioResampler | None, frame: AudioFrame | None) -> Iterator[FloatArray]:
    for piece in resampler.resample(frame) if resampler else ():
        mean = cast(FloatArray, piece.to_ndarray()).mean(axis=0, dtype=np.float32)
        yield np.clip(np.nan_to_num(mean), -1.0, 1.0)
