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
from itertools import count, groupby
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from twominds.errors import MediaError
from twominds.media.container import MediaFile
from twominds.media.cursor import FrameCursor
from twominds.media.images import SceneFit, as_displayed, displayed_size, face_image, scene_image
from twominds.media.timeline import read_timeline
from twominds.media.tracks import choice, picture_tracks
from twominds.records import ByteArray, Times

Wanted = tuple[int, str]
"""A tick, and what for: `scene` or `face`."""
Drawn = tuple[str, ByteArray | None]
Draw = Callable[[VideoFrame, str], ByteArray]

_SHARES = 4
"""A picture is decoded by at most so many threads."""
_IMAGE_CODECS = ("mjpeg", "png", "apng", "gif", "bmp", "tiff", "webp", "jpeg2000", "jpegls", "jpegxl")
"""A single frame of these is a photo."""


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
    scene_times_s: Times
    """[T]: the midpoints at which they are on the screen, in seconds from the first frame."""
    faces: tuple[ByteArray, ...]
    """F frames [H, W, 3] RGB, long side at most `max_side_px`; repeated frames are one array."""
    face_times_s: Times
    """[F]: as `scene_times_s`."""
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


@contextmanager
def opened_picture(file: MediaFile) -> Generator[FrameCursor | None]:
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
            check_limit(file, cursor)


def probe(file: MediaFile) -> VideoInfo:
    """What the file holds, by its packets and its first frame.

    Raises:
        MediaError: it is no video and no sound file, a photo, or its picture is too large.
    """
    with file.container() as container:
        sound, subtitles = bool(container.streams.audio), bool(container.streams.subtitles)
    with opened_picture(file) as cursor:
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
    with opened_picture(file) as cursor:
        if cursor is None:
            return None
        scene_ticks = uniform_positions(cursor.first, cursor.end, scene_frames)
        face_ticks = uniform_positions(cursor.first, cursor.end, face_frames)
        wanted = sorted([(tick, "scene") for tick in scene_ticks] + [(tick, "face") for tick in face_ticks])

        def draw(frame: VideoFrame, use: str) -> ByteArray:
            if use == "scene":
                return scene_image(frame, cursor.stream, scene_size_px, scene_fit)
            return face_image(frame, cursor.stream, max_side_px)

        images: dict[str, list[ByteArray]] = {"scene": [], "face": []}
        for use, image in _drawn(file, cursor, wanted, draw, threads):
            if image is None:
                return None
            images[use].append(image)
        check_limit(file, cursor)
        return Pictures(
            start_s=cursor.start_s,
            duration_s=cursor.duration_s,
            scene=np.stack(images["scene"]),
            scene_times_s=cursor.times_of(scene_ticks),
            faces=tuple(images["face"]),
            face_times_s=cursor.times_of(face_ticks),
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


def check_limit(file: MediaFile, cursor: FrameCursor) -> None:
    """Frames above the limit are passed over like damaged ones; but the few others must not stand for the clip."""
    if cursor.met_limit and cursor.failed_packets > cursor.decoded_frames:
        raise MediaError(
            f"{file.name} has a picture that cannot be decoded: most of its frames are larger than 8192x4320 pixels, "
            "or damaged."
        )
