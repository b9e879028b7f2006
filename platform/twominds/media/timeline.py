"""When a picture's frames are shown: by their time stamps where these can be true, else by counting the frames.

Stamps come wrong: all of them zero, one a day later because a clock was set, from zero again where files were joined.
They are believed when they go in the order of the frames (as far as a codec reorders them), when most of them differ,
and when none is more than `LONGEST_STEP_S` after the one before, except where sound goes on in between: the camera was
off. Otherwise every frame is as long as the mean step that can be true; where too few can, the sound's length is
shared among the frames. An index that names every frame is asked first; where there is none, all packets are read.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import cast

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from twominds.media.container import MediaFile, packets_of, read_only, seek
from twominds.media.tracks import sound_tracks

LONGEST_STEP_S = 10.0
"""A longer time in which a file has neither picture nor sound has not passed: a stamp is wrong."""
_REORDERED_FRAMES = 32
"""Twice as far as any codec moves a frame."""
_FULL_INDEX = ("mov,mp4,m4a,3gp,3g2,mj2", "avi")
"""Containers whose index, when there is one, names all frames."""
_MOST = 0.9
_USUAL_FRAMES_PER_S = 25

Ticks = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VideoTimeline:
    """The time of a picture, in ticks of `tick_s`."""

    tick_s: Fraction
    """The stream's own clock; where frames are counted, the length of a frame."""
    zero_s: float
    """Tick 0 in the container's own time."""
    start: int
    """Tick of the first frame, by the header."""
    end: int
    """Tick at which the last frame ends."""
    frame_ticks: int
    """Mean length of a frame, for those of which nothing better is known."""
    frames: int
    counted: bool
    """The stamps are not believed: frame k is shown from tick k to k + 1."""
    keys: Ticks = field(default_factory=lambda: np.empty(0, np.int64))
    """When the key frames are decoded, by an index that can be believed; empty without one."""
    delay: int = 0
    """How much later than it is decoded a frame is shown, at most."""


@dataclass(frozen=True, kw_only=True)
class _Packets:
    """What a stream's packets, in the order of the file, and its header say of time, in ticks of `tick_s`."""

    tick_s: Fraction
    start: int
    frame_ticks: Fraction
    """Length of a frame, by the header."""
    shown: Ticks
    decoded: Ticks
    lengths: Ticks
    """0 where a packet does not say."""


def read_timeline(file: MediaFile, index: int) -> VideoTimeline:
    """The time of the picture that is stream `index` of `file`, by its packets and not by its header.

    Raises:
        MediaError: the file is no video and no sound file.
    """
    with file.container() as container:
        stream = cast(VideoStream, container.streams[index])
        listed = _listed(container, stream)
        keys = np.array([entry.timestamp for entry in stream.index_entries if entry.is_keyframe], np.int64)
        if listed is not None:
            seek(container, stream, int(listed[-1]))
        packets = _read_packets(container, stream)
    if listed is not None:
        if len(packets.shown) and packets.shown.max() - listed[-1] <= LONGEST_STEP_S / packets.tick_s:
            believed = _believed(file, packets, frames=len(listed), mean=_mean_step(listed, packets.tick_s))
            return replace(believed, keys=keys, delay=int((packets.shown - packets.decoded).max()))
        with file.container() as container:  # cut off before what the index promises, or wrong there
            packets = _read_packets(container, container.streams[index])
    frames, mean = len(packets.shown), _mean_step(packets.decoded, packets.tick_s)
    if _possible(packets.shown) and _sound_fills(file, _gaps(np.sort(packets.shown), packets.tick_s), packets.tick_s):
        return _believed(file, packets, frames=frames, mean=mean)
    return VideoTimeline(
        tick_s=mean * packets.tick_s if mean else _shared_s(file, frames) or packets.frame_ticks * packets.tick_s,
        zero_s=float(packets.start * packets.tick_s),
        start=0,
        end=frames,
        frame_ticks=1,
        frames=frames,
        counted=True,
    )


def frame_ticks(file: MediaFile, index: int, timeline: VideoTimeline) -> Ticks:
    """When each frame of the picture that is stream `index` is shown, ascending: as the packets say, or counted.

    Every packet is a frame here, also one that will not decode: a frame's number is its place in the file.

    Raises:
        MediaError: the file is no video and no sound file.
    """
    if timeline.counted:
        return np.arange(timeline.start, timeline.end)
    with file.container() as container:
        shown = np.sort(_read_packets(container, container.streams[index]).shown)
    if (np.diff(shown) > 0).all():
        return shown
    ticks: list[int] = []
    for stamp in shown.tolist():  # of frames with one stamp the later ones are moved, as `FrameCursor` moves them
        ticks.append(stamp if not ticks or stamp > ticks[-1] else ticks[-1] + timeline.frame_ticks)
    return np.array(ticks, np.int64)


def _listed(container: InputContainer, stream: VideoStream) -> Ticks | None:
    """When all frames are decoded, by the container's index; None where it has none that can be true."""
    if container.format.name not in _FULL_INDEX or not stream.frames:
        return None
    listed = np.array([entry.timestamp for entry in stream.index_entries], np.int64)
    true = len(listed) and _possible(listed) and not len(_gaps(listed, _tick_s(stream)))
    return listed if true else None


def _believed(file: MediaFile, packets: _Packets, *, frames: int, mean: Fraction | None) -> VideoTimeline:
    """By the stamps; `packets` are all, or the last ones."""
    tick_s, frame_ticks = packets.tick_s, max(1, round(mean or packets.frame_ticks))
    end = packets.start + frame_ticks
    if len(packets.shown):
        short = (packets.lengths > 0) & (packets.lengths <= LONGEST_STEP_S / tick_s)
        end = int((packets.shown + np.where(short, packets.lengths, frame_ticks)).max())
        last = int(packets.shown.argmax())
        stated = int(packets.shown[last] + packets.lengths[last])
        if stated > end and _sound_fills(file, np.array([[packets.shown[last], stated]]), tick_s):
            end = stated  # one picture for all of the sound
    return VideoTimeline(
        tick_s=tick_s,
        zero_s=0.0,
        start=packets.start,
        end=end,
        frame_ticks=frame_ticks,
        frames=frames,
        counted=False,
    )


def _tick_s(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)


def _read_packets(container: InputContainer, stream: Stream) -> _Packets:
    """From where the container stands to its end."""
    read_only(container, stream)
    shown: list[int] = []
    decoded: list[int] = []
    lengths: list[int] = []
    for packet in packets_of(container, stream):
        if packet.size and not packet.is_discard:
            stamps = [stamp for stamp in (packet.pts, packet.dts) if stamp is not None] or shown[-1:] or [0]
            shown.append(stamps[0])
            decoded.append(stamps[-1])
            lengths.append(packet.duration or 0)
    rate = stream.average_rate if isinstance(stream, VideoStream) else None
    return _Packets(
        tick_s=_tick_s(stream),
        start=stream.start_time or 0,
        frame_ticks=1 / (rate or Fraction(_USUAL_FRAMES_PER_S)) / _tick_s(stream),
        shown=np.array(shown, np.int64),
        decoded=np.array(decoded, np.int64),
        lengths=np.array(lengths, np.int64),
    )


def _possible(stamps: Ticks) -> bool:
    """Whether most stamps differ, and frames are moved no further than a codec moves them."""
    order = np.argsort(stamps, kind="stable")
    moved = np.abs(order - np.arange(len(stamps))).max(initial=0)
    return bool(moved <= _REORDERED_FRAMES and 2 * np.count_nonzero(np.diff(stamps[order])) >= len(stamps) - 1)


def _gaps(stamps: Ticks, tick_s: Fraction) -> Ticks:
    """[n, 2]: where ascending stamps leave out more than `LONGEST_STEP_S`."""
    at = np.flatnonzero(np.diff(stamps) > LONGEST_STEP_S / tick_s)
    return np.stack([stamps[at], stamps[at + 1]], axis=1)


def _mean_step(stamps: Ticks, tick_s: Fraction) -> Fraction | None:
    """Mean of the steps that can be true, in ticks; None where these are too few."""
    steps = np.diff(stamps)
    true = steps[(steps > 0) & (steps <= LONGEST_STEP_S / tick_s)]
    return Fraction(int(true.sum()), len(true)) if len(true) > _MOST * len(steps) else None


def _sound_fills(file: MediaFile, gaps: Ticks, tick_s: Fraction) -> bool:
    """Whether sound goes on through each of the gaps [n, 2]."""
    sound = _sound_packets(file) if len(gaps) else None
    heard = np.sort(sound.shown) * float(sound.tick_s) if sound else np.empty(0)
    for start, end in gaps * float(tick_s):
        inside = heard[(heard > start) & (heard < end)]
        if np.diff([start, *inside, end]).max() > LONGEST_STEP_S:
            return False
    return True


def _shared_s(file: MediaFile, frames: int) -> Fraction | None:
    """The sound's length shared among `frames`; None where it has none."""
    sound = _sound_packets(file)
    mean = _mean_step(sound.shown, sound.tick_s) if sound else None
    return mean * sound.tick_s * len(sound.shown) / frames if sound and mean else None


def _sound_packets(file: MediaFile) -> _Packets | None:
    with file.container() as container:
        tracks = sound_tracks(container)
        return _read_packets(container, tracks[0]) if tracks else None
