"""Every part of a decoded clip knows when it is, in seconds from the first frame."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twominds.backbones import BackboneStore
from twominds.media.container import MediaFile
from twominds.media.dense import frame_times
from twominds.media.reader import MediaConfig, MediaReader
from twominds.records import Clip, ClipMedia, FloatArray, Modality, Word
from twominds.tasks import AH_FRAME, AH_VIDEO, Task

Write = Callable[..., Path]
VARIABLE = [*range(0, 1000, 20), *range(1000, 3000, 250)]
SIGHT_AND_SOUND = (Modality.SCENE, Modality.AUDIO, Modality.TEXT)


def read(tmp_path: Path, path: Path, task: Task = AH_VIDEO, *, words: tuple[Word, ...] | None = None) -> ClipMedia:
    reader = MediaReader(MediaConfig(), BackboneStore(uri=str(tmp_path)), "cpu", SIGHT_AND_SOUND, task)
    return reader.read(Clip(clip_id="a", video_uri=str(path), transcript="yes but" if words else None, words=words))


def noise(seconds: float) -> FloatArray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (1, round(seconds * 16_000))).astype(np.float32)


def test_scene_frames_are_on_the_screen_at_the_midpoints(write_video: Write, tmp_path: Path) -> None:
    media = read(tmp_path, write_video(VARIABLE))
    assert media.scene_times_s is not None
    middles = (np.arange(16) + 0.5) / 16 * media.duration_s
    np.testing.assert_allclose(media.scene_times_s, middles, atol=1e-3)  # in whole ticks of a millisecond
    assert media.points_s is None


def test_face_frames_too_and_those_of_the_corpus_by_their_number(write_video: Write, tmp_path: Path) -> None:
    import cv2

    crops = tmp_path / "crops"
    crops.mkdir()
    for number in (0, 10, 52, 99):  # the last one is beyond the video's last frame
        cv2.imwrite(str(crops / f"frame-{number}.jpg"), np.zeros((20, 20, 3), np.uint8))
    config = MediaConfig(detector="corpus", face_frames=4, min_face_frames=1)
    reader = MediaReader(config, BackboneStore(uri=str(tmp_path)), "cpu", [Modality.FACE])
    path = write_video(VARIABLE)
    media = reader.read(Clip(clip_id="a", video_uri=str(path), face_crops_uri=str(crops)))
    assert media.face_times_s is not None
    assert media.face_times_s.tolist() == pytest.approx([VARIABLE[n] / 1000 for n in (0, 10, 52, -1)])
    assert media.scene_times_s is None


@pytest.mark.parametrize(
    ("sound_s", "picture_s", "start_s"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.06, 0.0, 0.06), (0.0, 2.0, -2.0), (0.5, 2.0, -1.5)],
)
def test_sound_starts_where_it_is_heard(
    write_sounds: Write, tmp_path: Path, sound_s: float, picture_s: float, start_s: float
) -> None:
    """Later than the picture it is silent first; earlier (or hardly later), it keeps what the file has, and says so."""
    said = noise(3)
    media = read(tmp_path, write_sounds([(sound_s, said)], picture_s=4, picture_start_s=picture_s))
    assert media.audio_start_s == pytest.approx(start_s, abs=2e-3)
    assert media.audio is not None
    found = int(np.correlate(media.audio, said[0, 8000:16_000], "valid").argmax())
    assert media.audio_start_s + found / 16_000 == pytest.approx(sound_s - picture_s + 0.5, abs=2e-3)


def test_a_first_stamp_that_cannot_be_true_is_no_start(write_sounds: Write, restamp: Write, tmp_path: Path) -> None:
    path = write_sounds([(0, noise(3))], picture_s=3)

    def stamp(number: int, s: float) -> float:
        return s + 86_400.0 * (number == 0)

    wrong = restamp(path, "audio", stamp)
    assert read(tmp_path, wrong).audio_start_s == 0.0


def test_a_task_per_frame_has_its_points(write_video: Write, tmp_path: Path) -> None:
    path = write_video(VARIABLE)
    own = read(tmp_path, path, AH_FRAME).points_s
    assert own is not None
    with MediaFile(path) as file:
        np.testing.assert_array_equal(own, frame_times(file))
    at_rate = read(tmp_path, path, replace(AH_FRAME, rate_hz=4.0)).points_s
    assert at_rate is not None
    assert at_rate[:3].tolist() == [0.0, 0.25, 0.5]
    assert at_rate[-1] < read(tmp_path, path).duration_s <= at_rate[-1] + 0.25


def test_without_a_picture_points_go_on_while_there_is_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        samples = np.rint(noise(1.01) * 32767).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        sound.sample_rate = 16_000
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    media = read(tmp_path, path, AH_FRAME)
    assert media.points_s is not None
    assert media.points_s.tolist() == pytest.approx([k / 25 for k in range(26)])
    assert media.audio_start_s == 0.0
    at_rate = read(tmp_path, path, replace(AH_FRAME, rate_hz=2.0)).points_s
    assert at_rate is not None
    assert at_rate.tolist() == [0.0, 0.5, 1.0]


def test_words_are_the_corpus_s_or_the_subtitles_and_a_caller_s_have_no_times(
    write_subtitled: Write, tmp_path: Path
) -> None:
    path = write_subtitled([b"I would", b"rather not"])
    words = (Word(text="yes but", start_s=0.5, end_s=1.0),)
    assert read(tmp_path, path, words=words).words == words
    shown = read(tmp_path, path)
    assert (shown.transcript, shown.transcript_source) == ("I would rather not", "subtitles")
    assert shown.words is not None
    assert [(word.text, word.start_s) for word in shown.words] == [("I would", 0.0), ("rather not", 1.0)]
    reader = MediaReader(MediaConfig(), BackboneStore(uri=str(tmp_path)), "cpu", [Modality.TEXT])
    given = reader.read(Clip(clip_id="a", video_uri=str(path), words=words), transcript="caller")
    assert (given.transcript, given.words) == ("caller", None)


def test_the_video_stays_at_hand_without_a_copy(write_video: Write, tmp_path: Path) -> None:
    path = write_video([0, 40], rate=25)
    reader = MediaReader(MediaConfig(), BackboneStore(uri=str(tmp_path)), "cpu", [Modality.SCENE])
    clip = Clip(clip_id="a", video_uri=str(path))
    assert reader.read(clip).video == str(path)
    data = path.read_bytes()
    kept = reader.read(clip, source=data).video
    assert isinstance(kept, np.ndarray)
    assert np.shares_memory(kept, np.frombuffer(data, np.uint8))
    array = np.frombuffer(data, np.uint8)
    assert reader.read(clip, source=array).video is array
