"""A picture's frames by time, with as few of them decoded as can be, and the same ones whoever asks.

Where the file's index names the key frames, every frame is decoded from the last key frame before it, whatever was
asked for before: several cursors on one file may share the work. A frame that no other is made from is left out unless
it is on the screen at a tick that is asked for. Decoding is in one thread: the decoders' own threads end otherwise on
damaged files, and not always at all.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
from av.container import InputContainer
from av.error import ArgumentError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from twominds.media.container import DECODER_OPTIONS, DECODING_ERRORS, packets_of, read_only, seek
from twominds.media.timeline import VideoTimeline
from twominds.records import Times

_INDEXED = ("matroska,webm",)
"""Containers whose index, when there is one, names key frames alone."""
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts")
"""Containers in which a seek lands on a key frame with the right time; others (MPEG-PS) are decoded throughout."""
_SEEK_GAP_S = 2.0
"""Where no index tells, seeking is tried over gaps longer than this: most key frames are at most so far apart."""
_SEEK_FRAMES = 12
"""Frames that a seek has to save: it throws away the few that the decoder holds for reordering."""
_SKIPPING = ("h264", "hevc")
"""Codecs whose packets say whether another frame is made from theirs."""
_AHEAD = 16
"""Packets that are looked at before one is decoded: no codec moves a frame further."""


class FrameCursor:
    """Goes through a picture's frames in the order of presentation, seeking where that saves decoding.

    A frame that does not decode, or only in part, is passed over: the one decoded before it stays on the screen.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, timeline: VideoTimeline, *, first: int | None = None
    ) -> None:
        """Stand at the first frame of `stream`, in a container that was just opened.

        Args:
            container: Where the stream is.
            stream: The video stream that is read.
            timeline: When the stream's frames are shown.
            first: Tick of the first frame, where another cursor has found it: then nothing is decoded yet.
        """
        self.decoded_frames = 0
        self.failed_packets = 0
        self.met_limit = False
        """Whether the decoder refused a packet as it refuses frames above its limit."""
        self.container = container
        self.stream = stream
        stream.thread_count = 1
        stream.codec_context.options = DECODER_OPTIONS
        read_only(container, stream)
        self.timeline = timeline
        self._tick_s = timeline.tick_s
        self._skips = stream.codec_context.name in _SKIPPING and not timeline.counted
        self._indexed = container.format.name in _INDEXED
        self._seek_gap = int(_SEEK_GAP_S / self._tick_s)
        self._may_seek = container.format.name in _SEEKABLE and not timeline.counted
        self._run = 0
        self._ticks: list[int] | None = None
        self._shown: tuple[int, VideoFrame] | None = None
        self._next: tuple[int, VideoFrame] | None = None
        if first is None:
            first = self._restart()
        else:
            self._run = -1
        self.first = timeline.start if first is None else first
        """Tick of the first frame that decodes."""
        self.end = max(timeline.end, self.first + 1)
        """Tick at which the last frame ends."""

    @property
    def start_s(self) -> float:
        """When the first frame is shown, in the container's own time."""
        return self.timeline.zero_s + float(self.first * self._tick_s)

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the end of the last."""
        return float((self.end - self.first) * self._tick_s)

    def times_of(self, ticks: Sequence[int]) -> Times:
        """[n]: seconds from the first frame to each of the ticks."""
        return np.array([float((tick - self.first) * self._tick_s) for tick in ticks], np.float64)

    def run_of(self, tick: int) -> int:
        """Number of the run of frames that is decoded for `tick`: from a key frame on. 0 for all without an index."""
        keys = self.timeline.keys
        return max(0, int(np.searchsorted(keys, tick - self.timeline.delay, side="right")) - 1)

    def expect(self, ticks: Sequence[int]) -> None:
        """Say which ticks will be asked for, in ascending order, and no others: what they do not need is left out."""
        self._ticks = list(ticks)

    def at(self, tick: int) -> VideoFrame | None:
        """The frame on the screen at `tick` (ask in ascending order); the first one before it, None if none decodes."""
        if self.run_of(tick) != self._run:
            self._begin(self.run_of(tick), tick)
        elif self._next is not None and self._worth_seeking(tick, self._next[0]):
            self._seek(tick, self._next[0])
        while self._next is not None and self._next[0] <= tick:
            self._shown, self._next = self._next, next(self._frames, None)
        found = self._shown or self._next
        return found[1] if found else None

    def add(self, other: "FrameCursor") -> None:
        """Count what another cursor on the same picture decoded."""
        self.decoded_frames += other.decoded_frames
        self.failed_packets += other.failed_packets
        self.met_limit |= other.met_limit

    def _begin(self, run: int, tick: int) -> None:
        """Begin to decode at the key frame of `run`; where no frame up to `tick` decodes from there, further back."""
        self._run, back = run, 0
        while back < run:
            # By when it is shown: FFmpeg goes by that where frames that are shown before it follow it in the file.
            if not seek(self.container, self.stream, int(self.timeline.keys[run - back]) + self.timeline.delay):
                break
            landed = self._restart()
            if landed is not None and landed <= tick:
                return
            back = max(1, 2 * back)
        self._start_over()

    def _restart(self) -> int | None:
        """Begin to decode where the container stands; the tick of the first frame."""
        self._frames = self._decode()
        self._shown, self._next = None, next(self._frames, None)
        return self._next[0] if self._next else None

    def _start_over(self) -> None:
        start = self.timeline.start  # MPEG program streams, asked for its very tick, begin after it
        if not seek(self.container, self.stream, start - int(1 / self._tick_s)):
            seek(self.container, self.stream, start)
        self._restart()

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        last: int | None = None
        for packet in self._packets():
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

    def _packets(self) -> "Iterator[Packet[Stream]]":
        """The picture's packets; before each the decoder is told whether it may leave it out."""
        packets = packets_of(self.container, self.stream)
        if not self._skips:
            yield from packets
            return
        ahead: deque[Packet[Stream]] = deque()
        near: deque[int] = deque(maxlen=2 * _AHEAD)
        for packet in chain(packets, [None] * _AHEAD):
            if packet is not None:
                ahead.append(packet)
                near.extend([] if packet.pts is None else [packet.pts])
            if len(ahead) > _AHEAD or (packet is None and ahead):
                packet = ahead.popleft()
                needed = packet.pts is None or self._is_needed(packet.pts, near)
                self.stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
                yield packet

    def _is_needed(self, shown: int, near: Iterable[int]) -> bool:
        """Whether the frame that is shown from `shown` on, at most to the next of `near`, is asked for."""
        if self._ticks is None:
            return True
        after = min((tick for tick in near if tick > shown), default=None)
        place = bisect_left(self._ticks, shown)
        return place < len(self._ticks) and (after is None or self._ticks[place] < after)

    def _time_of(self, frame: VideoFrame, last: int | None) -> int:
        """Frames leave the decoder in the order of presentation; a stamp that says otherwise (AVI) is not believed."""
        for stamp in () if self.timeline.counted else (frame.pts, frame.dts):
            if stamp is not None and (last is None or stamp > last):
                return stamp
        return self.timeline.start if last is None else last + self.timeline.frame_ticks

    def _worth_seeking(self, tick: int, reached: int) -> bool:
        if not self._may_seek or len(self.timeline.keys) or tick <= reached:
            return False
        index = self.stream.index_entries
        if self._indexed and len(index) and index[len(index) - 1].timestamp >= tick:
            entry = index.search_timestamp(tick, backward=True)
            return entry >= 0 and index[entry].timestamp > reached + _SEEK_FRAMES * self.timeline.frame_ticks
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
        self._start_over()
