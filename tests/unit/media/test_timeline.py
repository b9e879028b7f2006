"""Time stamps that cannot be true, and those that only look so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twominds.media.container import MediaFile
from twominds.media.decode import Pictures, sample_pictures
from twominds.records import ByteArray, FloatArray

Write = Callable[..., Path]
Stamp = Callable[[int, float], float]
"""A packet's new seconds, from its number and its own."""
Number = Callable[[ByteArray], int]
DAY_S = 86_400.0
WRONG: dict[str, Stamp] = {
    "the last a day later": lambda number, s: s + DAY_S * (number == 99),
    "one an hour later": lambda number, s: s + 3600 * (number == 50),
    "a minute later from there on": lambda number, s: s + 60 * (number >= 50),
    "the first a day before": lambda number, s: s + DAY_S * (number > 0),
    "from zero again each second": lambda number, s: s % 1,
}
STEPLESS: dict[str, Stamp] = {"zero": lambda number, s: 0.0, "whole seconds": lambda number, s: float(int(s))}
TIMES = [40 * i for i in range(100)]
EVENLY = [(2 * k + 1) * 100 // 32 for k in range(16)]
"""Which of 100 frames are on the screen at the midpoints of 16 segments."""


def pictures_of(source: Path | bytes) -> Pictures:
    with MediaFile(source) as file:
        pictures = sample_pictures(file, face_frames=1)
    assert pictures is not None
    return pictures


@pytest.mark.parametrize("tone", [None, (440, 4, 0.3)])
@pytest.mark.parametrize("stamp", WRONG.values(), ids=WRONG)
def test_frames_are_counted_where_their_stamps_cannot_be_true(
    write_video: Write,
    restamp: Write,
    number_in: Number,
    stamp: Stamp,
    tone: tuple[float, float, float] | None,
) -> None:
    pictures = pictures_of(restamp(write_video(TIMES, rate=25, tone=tone), "video", stamp))
    assert pictures.duration_s == pytest.approx(4.0, abs=0.01)
    assert [number_in(image) for image in pictures.scene] == EVENLY


@pytest.mark.parametrize("stamp", STEPLESS.values(), ids=STEPLESS)
def test_frames_without_steps_are_as_long_as_the_sound(
    write_video: Write, restamp: Write, number_in: Number, stamp: Stamp
) -> None:
    pictures = pictures_of(restamp(write_video(TIMES, rate=25, tone=(440, 5, 0.3)), "video", stamp))
    assert pictures.duration_s == pytest.approx(5.0, abs=0.1)
    assert [number_in(image) for image in pictures.scene] == EVENLY


def test_files_that_were_joined_byte_by_byte_are_seen_to_their_end(write_video: Write, number_in: Number) -> None:
    first = write_video(TIMES, name="first.ts", rate=25, options={"g": "25", "preset": "ultrafast"})
    pictures = pictures_of(first.read_bytes() * 2)
    assert pictures.duration_s == pytest.approx(8.0, abs=0.01)
    numbers = [number_in(image) for image in pictures.scene]
    assert numbers == pytest.approx([(2 * k + 1) * 200 // 32 % 100 for k in range(16)], abs=2)  # a decoder drops some


def test_a_clock_that_runs_over_within_a_transport_stream(write_video: Write, number_in: Number) -> None:
    """Its stamps have 33 bits of 90 kHz: 26.5 hours."""
    plain = write_video(TIMES, name="plain.ts", rate=25, options={"g": "25", "preset": "ultrafast"})
    wrapped = plain.with_name("wrapped.ts")
    import av

    with av.open(str(plain)) as source, av.open(str(wrapped), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                packet.stream = stream
                packet.pts, packet.dts = packet.pts + 2**33 - 300_000, packet.dts + 2**33 - 300_000
                output.mux(packet)
    pictures = pictures_of(wrapped)
    assert pictures.duration_s == pytest.approx(4.0)
    assert [number_in(image) for image in pictures.scene] == EVENLY


def twelve_seconds_off(number: int, s: float) -> float:
    return s + 12 * (number >= 50)


def test_a_camera_that_was_off_while_the_sound_went_on(write_sounds: Write, restamp: Write) -> None:
    """Twelve seconds without a frame are time that passed, as there is sound all the time."""
    talk: FloatArray = np.full((1, 16 * 16_000), 0.1, np.float32)
    path = write_sounds([(0, talk)], picture_s=4)
    off = restamp(path, "video", twelve_seconds_off, "off.mkv")
    assert pictures_of(off).duration_s == pytest.approx(16.0)
    silent = write_sounds([(0, talk[:, :48_000])], picture_s=4, name="silent.mkv")
    wrong = restamp(silent, "video", twelve_seconds_off, "wrong.mkv")
    assert pictures_of(wrong).duration_s == pytest.approx(4.0, abs=0.01)
