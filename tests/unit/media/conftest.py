"""Small videos whose every frame carries its own number, written while the tests run."""

import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.records import ByteArray

BITS = 12


@pytest.fixture
def number_in() -> Callable[[ByteArray], int]:
    """Read the number off a picture of any size: BITS columns, each black or white."""

    def read(image: ByteArray) -> int:
        middle = image[image.shape[0] // 4 : image.shape[0] * 3 // 4].mean(axis=(0, 2))
        columns = np.array_split(middle, BITS)
        return sum(1 << bit for bit, column in enumerate(columns) if column[len(column) // 2] > 127)

    return read


def numbered_picture(number: int, height: int = 48) -> ByteArray:
    bits = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(bits, 16)[None, :, None], (height, BITS * 16, 3)))


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of numbered frames, shown at `times_ms`."""

    def write(
        times_ms: Sequence[int],
        *,
        name: str = "video.mp4",
        container: str | None = None,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        rotation: float | None = None,
        mirrored: bool = False,
        pictures: Sequence[ByteArray] | None = None,
        rate: int = 1000,
        tone: Sequence[float] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", format=container, options=container_options or {}) as output:
            encoder = {"g": "12", "preset": "ultrafast"} if options is None else options
            stream: av.VideoStream = cast(Any, output).add_stream(codec, rate=rate, options=encoder)
            first = pictures[0] if pictures else numbered_picture(0)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, rate)
            stream.codec_context.time_base = Fraction(1, rate)
            if rotation is not None:
                stream.set_display_rotation(rotation, hflip=mirrored)
            sound = output.add_stream("aac", rate=44_100, layout="stereo") if tone else None
            for number, time in enumerate(times_ms):
                picture = pictures[number] if pictures else numbered_picture(number)
                frame = VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = time * rate // 1000, Fraction(1, rate)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if sound and tone:
                frequency, seconds, amplitude = tone
                clock = np.arange(int(seconds * 44_100)) / 44_100
                wave = (amplitude * np.sin(2 * np.pi * frequency * clock)).astype(np.float32)
                for start in range(0, len(wave), 1024):
                    piece = np.stack([wave[start : start + 1024]] * 2)
                    samples = av.AudioFrame.from_ndarray(piece, "fltp", "stereo")
                    samples.sample_rate, samples.pts = 44_100, start
                    output.mux(sound.encode(samples))
                output.mux(sound.encode(None))
        return path

    return write


@pytest.fixture
def add_role(tmp_path: Path) -> Callable[[str, Path], BackboneStore]:
    """Put a copy of a folder into a bundle as a role."""

    def add(role: str, folder: Path) -> BackboneStore:
        staging = tmp_path / "staging" / role
        shutil.copytree(folder, staging)
        entry = BundleEntry(weights="debug", hub_id=None, revision="test", licence="test")
        add_to_bundle(str(tmp_path / "bundle"), role, staging, entry)
        return BackboneStore(uri=str(tmp_path / "bundle"))

    return add
