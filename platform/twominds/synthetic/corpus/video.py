"""Writes a clip as MP4 (H.264 and AAC), with the defects that real files have."""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from twominds.records import ByteArray, FloatArray
from twominds.synthetic.corpus.voice import SAMPLE_RATE_HZ

_TICKS_PER_S = 90_000
_AUDIO_CHUNK = 1024
_QUARTER_TURN = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
"""The track header's matrix for "turn by 90 degrees clockwise" (ISO 14496-12, 8.3.2)."""


def write_video(
    file: Path,
    frames: Iterator[ByteArray],
    times_s: Sequence[float],
    sound: FloatArray | None,
    *,
    size: tuple[int, int],
    rotated: bool = False,
) -> None:
    """Encodes a clip.

    Args:
        file: The file that is written.
        frames: uint8 [height, width, 3] RGB, one for each time.
        times_s: When each frame is shown; need not be even.
        sound: Mono at `SAMPLE_RATE_HZ`; None for a file without an audio track.
        size: (width, height) of the frames, both even.
        rotated: Store the pixels a quarter turn anticlockwise, and a flag that turns them back.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    width, height = reversed(size) if rotated else size
    with av.open(str(file), "w", format="mp4") as container:
        # The same frames make the same file: one thread, and none of x264's macroblock-tree, whose assembler is not
        # deterministic (two outcomes for the same input).
        options = {"preset": "veryfast", "crf": "23", "threads": "1", "x264-params": "mbtree=0"}
        rate = Fraction(_mean_rate(times_s)).limit_denominator(1000)
        video: Any = container.add_stream("libx264", rate=rate, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        audio: Any = None
        if sound is not None:
            audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
            audio.bit_rate = 48_000
        for packet in _sound_packets(audio, sound):
            container.mux(packet)
        for pixels, time_s in zip(frames, times_s, strict=True):
            upright = np.ascontiguousarray(np.rot90(pixels)) if rotated else pixels
            planes = cv2.cvtColor(upright, cv2.COLOR_RGB2YUV_I420)
            frame: Any = av.VideoFrame.from_ndarray(np.asarray(planes, dtype=np.uint8), format="yuv420p")
            frame.pts, frame.time_base = round(time_s * _TICKS_PER_S), Fraction(1, _TICKS_PER_S)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    if rotated:
        _set_quarter_turn(file)


def _mean_rate(times_s: Sequence[float]) -> float:
    return (len(times_s) - 1) / (times_s[-1] - times_s[0]) if len(times_s) > 1 else 1.0


def _sound_packets(stream: Any, sound: FloatArray | None) -> Iterator[Any]:
    if sound is None:
        return
    for start in range(0, len(sound), _AUDIO_CHUNK):
        chunk = np.ascontiguousarray(sound[None, start : start + _AUDIO_CHUNK])
        frame: Any = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, start, Fraction(1, SAMPLE_RATE_HZ)
        yield stream.encode(frame)
    yield stream.encode(None)


def _set_quarter_turn(file: Path) -> None:
    """Writes the rotation into the header of the first track, which is the video's."""
    data = bytearray(file.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + (40 if data[header] == 0 else 52)
    data[matrix : matrix + 36] = struct.pack(">9i", *_QUARTER_TURN)
    file.write_bytes(data)


def truncate(file: Path) -> None:
    """Cuts the end off, and with it the index: what a broken upload leaves."""
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
