"""A file's sound, as it is heard beside its picture: mono, 16 kHz, from the clip's first frame on.

Samples follow each other by their number; time stamps say where nothing was recorded. A frame that is stamped more than
`_JITTER_S` after the end of the one before has silence in front of it (muted, lost on the network, begun after the
picture), because a pause must not be spliced shut; so has the end, where the picture goes on. A stamp is not believed,
and the samples go straight on, where it lies before what was heard already (joined files, no stamps at all), where the
next one takes it back, or where it makes a silence of more than `LONGEST_STEP_S` that the picture does not outlast.
Sound that begins before the picture, or hardly after it, is neither cut nor has silence before it: `start_s` says when.

Channels are averaged, unless they cancel: then the loudest one is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from twominds.media.container import DECODING_ERRORS, MediaFile, packets_of, read_only
from twominds.media.decode import Pictures
from twominds.media.timeline import LONGEST_STEP_S
from twominds.media.tracks import choice, sound_tracks
from twominds.records import FloatArray

SAMPLE_RATE_HZ = 16_000

_JITTER_S = 0.1
"""Encoders' delays, rounded stamps and clocks that drift stay below; FFmpeg's `aresample` has the same limit."""
_MAX_CHANNELS = 64
"""As many as FFmpeg's resampler takes."""
_CANCELLED = 0.25
"""Channels cancel where their mean has less than this of the energy that it has of independent channels."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A clip's sound."""

    samples: FloatArray
    """[N] mono at 16 kHz, in [-1, 1], from the picture's first frame on; none where nothing decodes."""
    heard_s: float
    """Seconds of them that were decoded: the others are silence, where the file has no sound."""
    truncated: bool
    """The file's sound goes on after `max_s`."""
    start_s: float = 0.0
    """When the first sample is heard, in the container's own time."""
    warnings: tuple[str, ...] = ()
    """What was chosen among several tracks."""


def read_sound(
    file: MediaFile, *, pictures: Pictures | None = None, max_s: float = 600.0, audible: float = 0.0
) -> Sound | None:
    """The file's sound, at most its first `max_s` seconds, decoded piece by piece.

    Of several tracks the first one (`sound_tracks`) that can be heard, else the first of which anything decodes.

    Args:
        file: the opened video or sound file.
        pictures: its picture, whose time is the clip's; without one the sound begins with itself.
        max_s: sound after this is left out.
        audible: least peak of a track that can be heard.

    Returns:
        None where there is no sound track; no samples where there is one and nothing of it decodes.

    Raises:
        MediaError: the file is no video and no sound file.
    """
    best = Sound(samples=np.empty(0, np.float32), heard_s=0.0, truncated=False)
    number, channel = 0, None
    while True:  # opened anew where another track or channel is to be heard, which is rare
        with file.container() as container:
            if not container.streams.audio:
                return None
            tracks = sound_tracks(container)
            if number == len(tracks):
                return best
            recording = _Recording(int(max_s * SAMPLE_RATE_HZ), channel)
            recording.hear(_timed(_decoded(container, tracks[number]), pictures))
            if channel is None and recording.cancels:
                channel = recording.loudest
                continue
            sound = recording.sound(pictures, choice("sound track", container.streams.audio, tracks[number]))
        if np.abs(sound.samples).max(initial=-1.0) >= audible:
            return sound
        best = best if len(best.samples) else sound
        number, channel = number + 1, None


@dataclass(frozen=True, kw_only=True)
class _TimedFrame:
    frame: AudioFrame
    start_s: float
    """When it is heard; the first one by its own stamp, the others where they follow what was heard before."""
    pause_s: float
    """Silence before it."""
    end_s: float
    """When it ends."""


def _decoded(container: InputContainer, track: AudioStream) -> Iterator[AudioFrame]:
    read_only(container, track)
    for packet in packets_of(container, track):
        try:
            frames = cast(Sequence[AudioFrame], cast(Any, track).decode(packet))
        except DECODING_ERRORS:
            continue
        yield from (frame for frame in frames if frame.layout.nb_channels <= _MAX_CHANNELS)


def _timed(frames: Iterator[AudioFrame], pictures: Pictures | None) -> Iterator[_TimedFrame]:
    """Where each frame belongs, by the rule at the top of this module. Seconds are the container's."""
    now_s = pictures.start_s if pictures else None
    end_s = pictures.end_s if pictures else -np.inf
    shift_s = 0.0  # of the stamps, since one was not believed
    start_s: float | None = None
    frame = next(frames, None)
    while frame is not None:
        following = next(frames, None)
        pause_s = 0.0
        if frame.time is not None:
            stamp_s = frame.time + shift_s
            now_s = stamp_s if now_s is None else now_s
            if abs(stamp_s - now_s) > _JITTER_S:
                taken_back = following is not None and following.time is not None and following.time < frame.time
                if now_s < stamp_s <= max(now_s + LONGEST_STEP_S, end_s) and not taken_back:
                    pause_s = stamp_s - now_s
                else:
                    shift_s += now_s - stamp_s
        now_s = now_s or 0.0
        start_s = now_s if pause_s or start_s is not None else _begin_s(frame, following, now_s)
        now_s = now_s + pause_s + frame.samples / frame.sample_rate
        yield _TimedFrame(frame=frame, start_s=start_s, pause_s=pause_s, end_s=now_s)
        frame = following


def _begin_s(frame: AudioFrame, following: AudioFrame | None, now_s: float) -> float:
    """When the first frame is heard that has no silence before it: at its stamp where the next one goes on from there.

    `now_s`, the picture's beginning, where the stamp cannot be true.
    """
    if frame.time is None or abs(frame.time - now_s) > LONGEST_STEP_S:
        return now_s
    next_s = frame.time + frame.samples / frame.sample_rate
    goes_on = following is None or following.time is None or abs(following.time - next_s) <= _JITTER_S
    return frame.time if goes_on else now_s


class _Recording:
    """A clip's samples, as they come, and what tells whether its channels cancel."""

    def __init__(self, limit: int, channel: int | None) -> None:
        """Begin with nothing.

        Args:
            limit: how many samples are wanted.
            channel: the one to take; None: the mean of all.
        """
        self._limit, self._channel = limit, channel
        self._pieces: list[FloatArray] = []
        self._count = self._heard = 0
        self._end_s = 0.0
        self._start_s: float | None = None
        self._energies = np.zeros(_MAX_CHANNELS)
        self._energy = self._independent_energy = 0.0

    def hear(self, frames: Iterator[_TimedFrame]) -> None:
        """Take the samples of `frames` until there are enough."""
        resampler: AudioResampler | None = None
        form: tuple[str, str, int] | None = None
        for timed in frames:
            frame = timed.frame
            self._start_s = timed.start_s if self._start_s is None else self._start_s
            changed = (frame.format.name, frame.layout.name, frame.sample_rate)  # in the middle of some streams, too
            if form != changed or timed.pause_s:
                self._mix(resampler, None)
                self._pause(timed.pause_s)
                form = changed
                # Packed, as PyAV finds at most eight planes of a frame, and crashes on the ninth.
                resampler = AudioResampler(format="flt", layout=frame.layout.name, rate=SAMPLE_RATE_HZ)
            frame.pts = None  # the resampler complains about stamps with gaps
            self._mix(resampler, frame)
            self._end_s = timed.end_s
            if self._count > self._limit:
                return
        self._mix(resampler, None)

    @property
    def cancels(self) -> bool:
        """Whether the mean has far less energy than that of channels that have nothing to do with each other."""
        return self._energy < _CANCELLED * self._independent_energy

    @property
    def loudest(self) -> int:
        """The channel with the most energy."""
        return int(self._energies.argmax())

    def sound(self, pictures: Pictures | None, warnings: tuple[str, ...]) -> Sound:
        """All of it, and silence as long as the picture goes on."""
        truncated = self._count > self._limit
        if pictures and self._heard and pictures.end_s - self._end_s > _JITTER_S:
            self._pause(pictures.end_s - self._end_s)
        samples = np.concatenate([np.empty(0, np.float32), *self._pieces])[: self._limit]
        return Sound(
            samples=samples,
            heard_s=self._heard / SAMPLE_RATE_HZ,
            truncated=truncated,
            start_s=self._start_s or 0.0,
            warnings=warnings,
        )

    def _pause(self, seconds: float) -> None:
        self._add(np.zeros(max(0, min(round(seconds * SAMPLE_RATE_HZ), self._limit - self._count)), np.float32))

    def _mix(self, resampler: AudioResampler | None, frame: AudioFrame | None) -> None:
        """Samples of a frame, or with None what the resampler still holds. FFmpeg's own downmix can exceed 1."""
        for piece in resampler.resample(frame) if resampler else ():
            packed = cast(FloatArray, piece.to_ndarray()).reshape(piece.samples, -1)
            channels = np.nan_to_num(packed.T, posinf=1.0, neginf=-1.0)
            mean = channels.mean(axis=0, dtype=np.float32)
            count = len(channels)
            energies = np.square(channels, dtype=np.float64).sum(axis=1)
            self._energies[:count] += energies
            self._energy += float(np.square(mean, dtype=np.float64).sum())
            self._independent_energy += float(energies.sum()) / count**2
            taken = mean if self._channel is None else channels[min(self._channel, count - 1)]
            self._add(np.clip(taken, -1.0, 1.0))
            self._heard += len(taken)

    def _add(self, samples: FloatArray) -> None:
        self._pieces.append(samples)
        self._count += len(samples)
