"""Frames carry their own number: every one of them must come, once, at its time, whatever the blocks."""

import gc
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from twominds.errors import MediaError
from twominds.media.container import MediaFile
from twominds.media.decode import sample_pictures
from twominds.media.dense import FrameBlock, frame_blocks, frame_times, regular_times
from twominds.records import ByteArray, Times

Write = Callable[..., Path]
Number = Callable[[ByteArray], int]
VARIABLE = [*range(0, 2000, 20), *range(2000, 6000, 800), *range(6000, 7000, 33)]


def blocks_of(path: Path, **options: Any) -> list[FrameBlock]:
    with MediaFile(path) as file:
        return list(frame_blocks(file, **options))


def times_of(path: Path, rate_hz: float | None = None) -> Times:
    with MediaFile(path) as file:
        return frame_times(file, rate_hz=rate_hz)


def plainly_decoded(path: Path) -> tuple[list[VideoFrame], Times]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    shown = np.array([frame.time for frame in frames], np.float64)
    return frames, shown - shown[0]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"g": "30", "bf": "3", "preset": "veryfast"}),
        ("open_gop.mp4", "libx264", {"g": "30", "bf": "3", "preset": "veryfast", "x264-params": "open-gop=1"}),
        ("b_frames.mkv", "libx264", {"g": "30", "bf": "2", "preset": "veryfast"}),
        ("no_index.ts", "libx264", {"g": "30", "bf": "3", "preset": "veryfast"}),
        ("only_key_frames.mov", "mjpeg", {"strict": "unofficial"}),
    ],
)
def test_every_frame_of_a_variable_rate_comes_once_at_its_time(
    write_video: Write, number_in: Number, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(VARIABLE, name=name, codec=codec, options=options)
    blocks = blocks_of(path, block_frames=16)
    numbers = [number_in(frame) for block in blocks for frame in block.frames]
    assert numbers == list(range(len(VARIABLE)))
    times_s = np.concatenate([block.times_s for block in blocks])
    np.testing.assert_allclose(times_s, np.array(VARIABLE) / 1000, atol=2e-3 if name == "no_index.ts" else 5e-4)
    np.testing.assert_array_equal(times_s, times_of(path))
    assert [len(block.frames) for block in blocks] == [16] * (len(VARIABLE) // 16) + [len(VARIABLE) % 16]
    assert {block.total for block in blocks} == {len(VARIABLE)}


@pytest.mark.parametrize("name", ["old.avi", "program_stream.mpg"])
def test_containers_with_few_stamps_have_all_frames_too(write_video: Write, number_in: Number, name: str) -> None:
    codec = {"old.avi": "mpeg4", "program_stream.mpg": "mpeg1video"}[name]
    path = write_video([40 * i for i in range(60)], name=name, codec=codec, options={"g": "12", "bf": "2"}, rate=25)
    blocks = blocks_of(path)
    assert [number_in(frame) for block in blocks for frame in block.frames] == list(range(60))
    np.testing.assert_allclose(times_of(path), np.arange(60) / 25, atol=1e-3)


@pytest.mark.parametrize("rate_hz", [2.0, 0.2, 7.3, 120.0])
def test_at_a_rate_it_is_the_frame_on_the_screen(write_video: Write, number_in: Number, rate_hz: float) -> None:
    path = write_video(VARIABLE, options={"g": "30", "bf": "2", "preset": "veryfast"})
    blocks = blocks_of(path, rate_hz=rate_hz, block_frames=9)
    times_s = np.concatenate([block.times_s for block in blocks])
    with MediaFile(path) as file:
        pictures = sample_pictures(file)
    assert pictures is not None
    exact = [k / Fraction(str(rate_hz)) for k in range(len(times_s) + 1)]
    assert exact[-2] < pictures.duration_s <= exact[-1]
    np.testing.assert_allclose(times_s, [float(time) for time in exact[:-1]], rtol=1e-12)
    expected = [max(i for i, start in enumerate(VARIABLE) if Fraction(start, 1000) <= time) for time in exact[:-1]]
    assert [number_in(frame) for block in blocks for frame in block.frames] == expected
    np.testing.assert_array_equal(times_of(path, rate_hz), times_s)


def test_regular_times_end_before_the_end() -> None:
    np.testing.assert_array_equal(regular_times(Fraction(1), 4.0), [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(regular_times(Fraction(1, 8), 4.0), [0.0])
    assert len(regular_times(Fraction(3600), 30_000 / 1001)) == 107_893


@pytest.mark.parametrize("clip", ["bbaf2n.mpg", "face_noface.mov", "no_face.mp4", "fer_noaudio.mp4"])
def test_blocks_are_what_plain_decoding_gives(shared_media: Path, clip: str) -> None:
    path = shared_media / "clips" / clip
    frames, shown_s = plainly_decoded(path)
    np.testing.assert_allclose(times_of(path), shown_s, atol=1e-9)
    blocks = blocks_of(path, max_side_px=64)
    ours = [image for block in blocks for image in block.frames]
    assert len(ours) == len(frames)
    for image, frame in list(zip(ours, frames, strict=True))[::7]:
        height, width = image.shape[:2]
        turned = (height > width) != (frame.height > frame.width)
        size = {"width": height, "height": width} if turned else {"width": width, "height": height}
        theirs = cast(ByteArray, frame.reformat(**size, format="rgb24").to_ndarray()).astype(int)
        assert abs(image.mean() - theirs.mean()) < 1.5
        if not turned:
            assert np.abs(image.astype(int) - theirs).mean() < 3


def test_they_are_the_frames_that_sampling_takes(write_video: Write) -> None:
    path = write_video(VARIABLE, options={"g": "30", "bf": "3", "preset": "veryfast"})
    with MediaFile(path) as file:
        sampled = sample_pictures(file, face_frames=20)
    assert sampled is not None
    every = [image for block in blocks_of(path) for image in block.frames]
    shown = np.searchsorted(times_of(path), sampled.face_times_s, side="right") - 1
    for image, number in zip(sampled.faces, shown, strict=True):
        np.testing.assert_array_equal(image, every[int(number)])


def test_frames_are_turned_and_shrunk_as_they_are_for_the_faces(write_video: Write) -> None:
    stored = np.full((96, 320, 3), 40, np.uint8)
    stored[:40, :60] = (230, 30, 30)
    path = write_video([0, 40], pictures=[stored, stored], rotation=90, pixel_shape=Fraction(2), rate=25)
    with MediaFile(path) as file:
        sampled = sample_pictures(file, max_side_px=160)
    assert sampled is not None
    (block,) = blocks_of(path, max_side_px=160)
    assert block.frames[0].shape == (160, 24, 3)
    np.testing.assert_array_equal(block.frames[0], sampled.faces[0])


def test_a_frame_that_does_not_decode_leaves_the_one_before_on_the_screen(
    write_video: Write, number_in: Number, tmp_path: Path
) -> None:
    path = write_video([40 * i for i in range(40)], options={"g": "1", "preset": "ultrafast"}, rate=25)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        at, size = cast(int, packets[20].pos), packets[20].size
    data = bytearray(path.read_bytes())
    data[at + 5 : at + size] = bytes(size - 5)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    numbers = [number_in(frame) for block in blocks_of(broken) for frame in block.frames]
    assert len(numbers) == 40  # as many as `frame_times`, so that what is said of frames by number stays in place
    assert numbers[:20] == list(range(20))
    assert numbers[21:] == list(range(21, 40))
    assert numbers[20] != 21


def test_only_a_few_frames_are_in_memory(write_video: Write) -> None:
    path = write_video([40 * i for i in range(400)], rate=25)
    alive = list[weakref.ref[ByteArray]]()
    most = 0
    with MediaFile(path) as file:
        for block in frame_blocks(file, block_frames=8):
            alive += [weakref.ref(frame) for frame in block.frames]
            gc.collect()
            alive = [frame for frame in alive if frame() is not None]
            most = max(most, len(alive))
    assert most <= 8 + 8 + 1  # the block before may still be in the caller's hands


def test_without_a_picture_there_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        sound.sample_rate = 16_000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    assert times_of(path).shape == (0,)
    assert blocks_of(path) == []


def test_a_picture_that_is_too_large_is_refused(shared_cases: Path) -> None:
    with pytest.raises(MediaError, match="larger than 8192x4320"):
        blocks_of(shared_cases / "second_frame_144_megapixels.mov")
