"""Frames carry their own number, so that what was asked for can be told from what came."""

import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from twominds.errors import MediaError
from twominds.media.container import DECODER_OPTIONS, MediaFile
from twominds.media.decode import Pictures, probe, sample_pictures, uniform_positions
from twominds.media.sound import read_sound
from twominds.records import ByteArray

Write = Callable[..., Path]
Number = Callable[[ByteArray], int]

CONSTANT_25 = [40 * i for i in range(300)]


def pictures_of(source: Path | bytes, **options: Any) -> Pictures:
    with MediaFile(source) as file:
        pictures = sample_pictures(file, **options)
    assert pictures is not None
    return pictures


def on_screen(starts_ms: list[int], end_ms: int, count: int) -> list[int]:
    """By the definition, in exact fractions: which frame is shown at the midpoint of each of `count` segments."""
    first = starts_ms[0]
    middles = [first + Fraction((2 * k + 1) * (end_ms - first), 2 * count) for k in range(count)]
    return [max(i for i, start in enumerate(starts_ms) if start <= middle) for middle in middles]


def test_positions_are_midpoints_of_equal_segments() -> None:
    assert uniform_positions(0, 16, 16) == list(range(16))
    assert uniform_positions(100, 500, 4) == [150, 250, 350, 450]
    assert uniform_positions(0, 1, 3) == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"g": "50", "bf": "3", "preset": "veryfast"}),
        ("open_gop.mp4", "libx264", {"g": "50", "bf": "3", "preset": "veryfast", "x264-params": "open-gop=1"}),
        ("one_key_frame.mp4", "libx264", {"g": "9999", "preset": "ultrafast"}),
        (
            "phone.mp4",
            "libx265",
            {"preset": "superfast", "x265-params": "keyint=25:bframes=4:open-gop=1:log-level=none"},
        ),
        ("low_delay.mp4", "libx265", {"preset": "superfast", "x265-params": "keyint=25:bframes=0:log-level=none"}),
        ("only_key_frames.mov", "mjpeg", {"strict": "unofficial"}),
        ("cues.mkv", "libx264", {"g": "50", "bf": "3", "preset": "veryfast"}),
        ("no_index.ts", "libx264", {"g": "50", "bf": "3", "preset": "veryfast"}),
        ("program_stream.mpg", "mpeg1video", {"g": "12", "bf": "2"}),
        ("old.avi", "mpeg4", {"g": "12"}),
    ],
)
@pytest.mark.parametrize(("scene_frames", "face_frames"), [(16, 30), (3, 2)])
def test_exactly_the_frames_on_the_screen_at_the_midpoints(
    write_video: Write,
    number_in: Number,
    name: str,
    codec: str,
    options: dict[str, str],
    scene_frames: int,
    face_frames: int,
) -> None:
    path = write_video(CONSTANT_25, name=name, codec=codec, options=options, rate=25)
    pictures = pictures_of(path, scene_frames=scene_frames, face_frames=face_frames, threads=3)
    assert pictures.duration_s == pytest.approx(12.0)
    assert pictures.scene.shape == (scene_frames, 224, 224, 3)
    assert [number_in(image) for image in pictures.scene] == on_screen(CONSTANT_25, 12_000, scene_frames)
    assert [number_in(image) for image in pictures.faces] == on_screen(CONSTANT_25, 12_000, face_frames)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_frame_rate_counts_time_not_frames(write_video: Write, number_in: Number, name: str) -> None:
    times = [*range(0, 2000, 20), *range(2000, 10_000, 800), *range(10_000, 11_000, 33)]
    pictures = pictures_of(write_video(times, name=name, options={"g": "30", "bf": "2", "preset": "veryfast"}))
    numbers = [number_in(image) for image in pictures.faces]
    # The last frame's own length is the container's guess: it moves the midpoints by a few ms at most.
    possible = [on_screen(times, end, 30) for end in range(times[-1] + 1, times[-1] + 60)]
    assert numbers in possible
    # By index, half of the frames would be from the first two seconds; by time, 2 / 11 of them.
    assert sum(number < 100 for number in numbers) == 5


def test_fewer_frames_than_asked_for_are_repeated(write_video: Write, number_in: Number) -> None:
    pictures = pictures_of(write_video([0, 40, 80], rate=25), scene_frames=6, face_frames=3)
    assert [number_in(image) for image in pictures.scene] == [0, 0, 1, 1, 2, 2]
    assert [number_in(image) for image in pictures.faces] == [0, 1, 2]
    one = pictures_of(write_video([0], name="one.mp4", rate=25))
    assert one.scene.shape == (16, 224, 224, 3)
    assert len(one.faces) == 30
    assert one.faces[0] is one.faces[29]


def test_a_long_file_is_not_decoded_from_its_start_and_takes_no_more_memory(
    write_video: Write, number_in: Number
) -> None:
    options = {"g": "25", "preset": "ultrafast"}
    peaks: list[int] = []
    for frames in (400, 4000):
        times = [40 * i for i in range(frames)]
        path = write_video(times, name=f"{frames}.mp4", options=options, rate=25)
        tracemalloc.start()
        pictures = pictures_of(path, scene_frames=8, face_frames=8)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [number_in(image) for image in pictures.scene] == on_screen(times, 40 * frames, 8)
    assert pictures.decoded_frames < 8 * 2 * 25  # at most a group of pictures for each, of 4000
    assert peaks[1] < peaks[0] + 100_000


@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_turned_as_the_display_matrix_says(write_video: Write, degrees: int, mirrored: bool) -> None:
    stored = np.full((96, 160, 3), 40, np.uint8)
    stored[:40, :60] = (230, 30, 30)  # top left, seen as stored
    stored[60:, 110:] = (30, 30, 230)
    path = write_video([0, 40], pictures=[stored, stored], rotation=degrees, mirrored=mirrored, rate=25)
    # FFmpeg's display matrix as it is written here: turned anticlockwise, as NumPy's rot90 turns, then mirrored.
    shown = np.rot90(stored, degrees // 90)
    shown = shown[:, ::-1] if mirrored else shown
    pictures = pictures_of(path)
    face = pictures.faces[0]
    assert face.shape == shown.shape
    assert np.abs(face.astype(int) - shown).mean() < 6
    corner = shown[8, 8].astype(int)
    assert np.abs(pictures.scene[0][12, 12] - corner).max() < 20
    with MediaFile(path) as file:
        info = probe(file)
    assert (info.height, info.width) == face.shape[:2]


def test_face_frames_are_shrunk_to_the_long_side_scene_frames_to_a_square(write_video: Write) -> None:
    path = write_video([0, 40], pictures=[np.zeros((120, 480, 3), np.uint8)] * 2, rate=25)
    pictures = pictures_of(path, max_side_px=160, scene_size_px=64)
    assert pictures.faces[0].shape == (40, 160, 3)
    assert pictures.scene.shape[1:] == (64, 64, 3)


@pytest.mark.parametrize(("height", "width"), [(96, 160), (160, 96), (120, 120), (90, 224), (300, 500)])
def test_scene_frames_are_cropped_as_videomae_s_own_processor_does_it(
    write_video: Write, height: int, width: int
) -> None:
    from transformers import VideoMAEImageProcessor

    smooth = np.random.default_rng(0).uniform(0, 255, (5, 5, 3)).astype(np.float32)
    picture = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    pictures = pictures_of(write_video([0, 40], pictures=[picture] * 2, rate=25), scene_fit="crop", scene_frames=2)
    stored = pictures.faces[0]  # as the file has it, after compression
    processor: Any = VideoMAEImageProcessor(do_normalize=False, do_rescale=False)
    expected = np.asarray(processor([stored], return_tensors="np")["pixel_values"])[0, 0].transpose(1, 2, 0)
    assert pictures.scene.shape == (2, 224, 224, 3)
    assert np.abs(pictures.scene[0].astype(float) - expected).mean() < 2.5
    squeezed = pictures_of(write_video([0, 40], pictures=[picture] * 2, rate=25), scene_frames=2).scene[0]
    if height != width:
        assert np.abs(squeezed.astype(float) - expected).mean() > 5


def test_pixels_that_are_not_square_are_shown_square(write_video: Write) -> None:
    path = write_video([0, 40], pictures=[np.zeros((96, 80, 3), np.uint8)] * 2, pixel_shape=Fraction(2), rate=25)
    assert pictures_of(path).faces[0].shape == (96, 160, 3)
    turned = write_video(
        [0, 40], pictures=[np.zeros((96, 80, 3), np.uint8)] * 2, pixel_shape=Fraction(2), rotation=90, rate=25
    )
    assert pictures_of(turned).faces[0].shape == (160, 96, 3)
    damaged = write_video([0, 40], pictures=[np.zeros((96, 80, 3), np.uint8)] * 2, pixel_shape=Fraction(99), rate=25)
    assert pictures_of(damaged).faces[0].shape == (96, 80, 3)


def write_growing(path: Path, sizes: list[int]) -> Path:
    """JPEG frames of the widths given in one stream, whose header has the first."""
    with av.open(str(path), "w") as output:
        stream: av.VideoStream = cast(Any, output).add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = sizes[0], sizes[0], "yuvj420p"
        for number, size in enumerate(sizes):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = size, size, "yuvj420p"
            encoder.time_base = Fraction(1, 10)
            picture = np.full((size, size, 3), 25 * number, np.uint8)
            for packet in encoder.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                packet.stream, packet.time_base = stream, Fraction(1, 10)
                packet.pts = packet.dts = number
                output.mux(packet)
    return path


def test_frames_above_the_limit_are_passed_over_and_a_clip_of_them_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = write_growing(tmp_path / "few.mov", [64, 64, 640, 64, 64, 64])
    most = write_growing(tmp_path / "most.mov", [64, 640, 640, 640, 640, 640])
    assert len(np.unique(pictures_of(most, scene_frames=6).scene.reshape(6, -1), axis=0)) == 6
    monkeypatch.setitem(DECODER_OPTIONS, "max_pixels", str(100 * 100))
    shades = pictures_of(few, scene_frames=6).scene.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shades, [0, 25, 25, 75, 100, 125], atol=3)  # the third is not there
    with pytest.raises(MediaError, match=r"most\.mov has a picture that cannot be decoded"):
        pictures_of(most)


def test_of_several_pictures_the_default_one_is_seen_and_the_choice_told(tmp_path: Path, number_in: Number) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams: list[av.VideoStream] = []
        for _ in range(2):
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 192, 48, "yuv420p"
            streams.append(stream)
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for number, stream in ((5, streams[0]), (9, streams[1])):
            bits = np.repeat(np.array([255 * (number >> bit & 1) for bit in range(12)], np.uint8), 16)
            picture = np.ascontiguousarray(np.broadcast_to(bits[None, :, None], (48, 192, 3)))
            for _ in range(10):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            output.mux(stream.encode(None))
    pictures = pictures_of(path)
    assert number_in(pictures.scene[0]) == 9
    assert pictures.warnings == ("The file has 2 pictures; number 2 was used, the rest was left out.",)


@pytest.mark.parametrize(
    ("name", "container_options"),
    [
        ("index_first.mp4", {"movflags": "faststart"}),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("cut.mkv", {}),
        ("cut.ts", {}),
    ],
)
def test_of_a_truncated_file_what_is_there_is_used(
    write_video: Write, number_in: Number, name: str, container_options: dict[str, str]
) -> None:
    path = write_video(
        CONSTANT_25,
        name=name,
        container_options=container_options,
        options={"g": "25", "preset": "ultrafast"},
        rate=25,
        tone=(440, 12, 0.3),
    )
    data = path.read_bytes()[: path.stat().st_size // 2]
    pictures = pictures_of(data)
    assert 4.5 < pictures.duration_s < 7.5  # half of it, whatever the header says
    numbers = [number_in(image) for image in pictures.scene]
    assert len(set(numbers)) == 16
    assert numbers == sorted(numbers)
    assert abs(numbers[-1] - pictures.duration_s * 25 * 31 / 32) <= 2
    with MediaFile(data) as file:
        sound = read_sound(file)
    assert sound is not None
    assert 4.5 < len(sound.samples) / 16_000 < 7.5


@pytest.mark.parametrize("factor", [10, 0.25])
def test_a_header_that_lies_about_the_duration_is_not_believed(
    write_video: Write, number_in: Number, factor: float
) -> None:
    """A Matroska file, whose duration is one float64 in its header."""
    data = write_video(CONSTANT_25, name="liar.mkv", rate=25, options={"g": "25", "preset": "ultrafast"}).read_bytes()
    place = data.index(b"\x44\x89\x88") + 3
    assert struct.unpack(">d", data[place : place + 8])[0] == pytest.approx(12_000)
    lying = data[:place] + struct.pack(">d", 12_000 * factor) + data[place + 8 :]
    pictures = pictures_of(lying)
    assert pictures.duration_s == pytest.approx(12.0)
    assert [number_in(image) for image in pictures.scene] == on_screen(CONSTANT_25, 12_000, 16)


def test_damage_within_the_picture_is_passed_over(write_video: Write, number_in: Number) -> None:
    data = bytearray(write_video(CONSTANT_25, rate=25, options={"g": "25", "preset": "ultrafast"}).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = b"\xff" * 600
    pictures = pictures_of(bytes(data))
    assert [number_in(image) for image in pictures.scene[:4]] == on_screen(CONSTANT_25, 12_000, 16)[:4]
    assert [number_in(image) for image in pictures.scene[-4:]] == on_screen(CONSTANT_25, 12_000, 16)[-4:]


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_ends_in_pictures_or_in_a_media_error(write_video: Write, seed: int) -> None:
    path = write_video(CONSTANT_25[:50], rate=25, tone=(440, 2, 0.3), container_options={"movflags": "faststart"})
    generator = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for _ in range(10 ** (seed % 4)):
        data[int(generator.integers(len(data)))] = int(generator.integers(256))
    try:
        with MediaFile(bytes(data)) as file:
            sample_pictures(file)
            read_sound(file)
    except MediaError:
        pass


def test_frames_that_nothing_needs_are_not_decoded(write_video: Write, number_in: Number) -> None:
    """No frame is made from a B-frame here, and two of three are one: those not on the screen are left out."""
    options = {"g": "50", "bf": "2", "preset": "veryfast", "x264-params": "b-adapt=0:b-pyramid=none:scenecut=0"}
    path = write_video(CONSTANT_25, options=options, rate=25)
    pictures = pictures_of(path, scene_frames=16, face_frames=1)
    assert [number_in(image) for image in pictures.scene] == on_screen(CONSTANT_25, 12_000, 16)
    assert pictures.decoded_frames <= 100 + 17
    few = pictures_of(path, scene_frames=1, face_frames=1)
    assert few.decoded_frames < 25


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_the_number_of_threads_changes_nothing_also_of_a_damaged_file(write_video: Write, codec: str) -> None:
    options = {"g": "12", "bf": "2"} | ({} if codec == "mpeg4" else {"preset": "ultrafast"})
    options |= {"x265-params": "keyint=12:log-level=none"} if codec == "libx265" else {}
    whole = write_video(CONSTANT_25[:100], codec=codec, options=options, rate=25).read_bytes()
    generator, start, different = np.random.default_rng(0), whole.index(b"mdat") + 8, 0
    for _ in range(12):
        data = bytearray(whole)
        for place in generator.integers(start, whole.rindex(b"moov") - 60, 4):
            data[place : place + 60] = generator.bytes(60)
        one, several = (pictures_of(bytes(data), threads=threads) for threads in (1, 4))
        np.testing.assert_array_equal(one.scene, several.scene)
        assert len(one.faces) == len(several.faces)
        assert all(np.array_equal(face, other) for face, other in zip(one.faces, several.faces, strict=True))
        different += not np.array_equal(one.scene, pictures_of(whole).scene)
    assert different > 6, "damage that is seen"


def test_what_is_no_video_is_refused_with_its_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video\n" * 100)
    with MediaFile(text) as file, pytest.raises(MediaError, match=r"notes\.mp4 is not a video"):
        sample_pictures(file)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(MediaError, match=r"empty\.mp4 is empty"):
        MediaFile(empty)
    with pytest.raises(MediaError, match=r"missing\.mp4 is not there"):
        MediaFile(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match="cannot be opened"):
        MediaFile(tmp_path)


def test_a_playlist_cannot_make_ffmpeg_open_other_files(write_video: Write) -> None:
    other = write_video([0, 40], name="secret.ts", rate=25)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other.as_uri()}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{other}'\n"
    for text in (playlist, concat):
        with MediaFile(text.encode(), name="upload.mp4") as file, pytest.raises(MediaError, match="not a video"):
            probe(file)


def test_sound_only_and_cover_art_are_no_picture(tmp_path: Path, write_video: Write) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=44_100, layout="mono")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        output.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(np.full((1, 44_100), 0.2, np.float32), "fltp", "mono")
        piece.sample_rate = 44_100
        output.mux(sound.encode(piece))
        output.mux(sound.encode(None))
    with MediaFile(path) as file:
        info = probe(file)
        assert sample_pictures(file) is None
        heard = read_sound(file)
    assert not info.has_picture
    assert info.has_sound
    assert heard is not None
    assert len(heard.samples) == pytest.approx(16_000, abs=800)


def test_bytes_an_open_file_and_a_uri_are_read_alike(write_video: Write) -> None:
    import fsspec

    path = write_video(CONSTANT_25[:10], rate=25)
    memory = cast(Any, fsspec).filesystem("memory")
    memory.pipe("/clips/video.mp4", path.read_bytes())
    expected = pictures_of(path).scene
    np.testing.assert_array_equal(pictures_of(path.read_bytes()).scene, expected)
    with path.open("rb") as handle:
        with MediaFile(handle) as file:
            pictures = sample_pictures(file)
        assert not handle.closed
    assert pictures is not None
    np.testing.assert_array_equal(pictures.scene, expected)
    with MediaFile("memory://clips/video.mp4") as file:
        pictures = sample_pictures(file)
    assert pictures is not None
    np.testing.assert_array_equal(pictures.scene, expected)
