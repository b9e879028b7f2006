"""Clips into `ClipMedia`: what is present, what is absent and why, and that nothing stops the others."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twominds.artifacts import from_json
from twominds.backbones import BackboneStore
from twominds.errors import BackboneError, ConfigError, MediaError
from twominds.media.reader import MediaConfig, MediaReader
from twominds.records import ByteArray, Clip, ClipMedia, Failure, FloatArray, Modality

Write = Callable[..., Path]


class HalfDetector:
    """Finds a face, of the score given, in the first `faces` frames of a clip."""

    def __init__(self, folder: Path, *, confidence: float, device: str) -> None:
        self.faces, self.score = 0, 0.9

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        face = np.array([[0, 0, 20, 20, self.score]], np.float32)
        return [face if number < self.faces else face[:0] for number in range(len(frames))]


@pytest.fixture
def store(tmp_path: Path, add_role: Callable[[str, Path], BackboneStore]) -> BackboneStore:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.yaml").touch()
    return add_role("detect.yolo_face", folder)


@pytest.fixture
def make_reader(store: BackboneStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MediaReader]:
    """A reader whose YOLO is a stand-in that finds a face in the first `faces` frames."""

    def make(config: MediaConfig | None = None, *, faces: int = 30, score: float = 0.9) -> MediaReader:
        class Stub(HalfDetector):
            def __init__(self, folder: Path, *, confidence: float, device: str) -> None:
                super().__init__(folder, confidence=confidence, device=device)
                self.faces, self.score = faces, score

        monkeypatch.setattr("twominds.media.reader.YoloFaceDetector", Stub)
        return MediaReader(config or MediaConfig(), store)

    return make


def clip_of(path: Path, **fields: str | None) -> Clip:
    return Clip(clip_id=path.name, video_uri=str(path), **fields)  # pyright: ignore[reportArgumentType]


def reasons(media: ClipMedia) -> dict[str, str]:
    return {modality.value: presence.reason for modality, presence in media.presence.items()}


TIMES = [40 * i for i in range(75)]


def test_a_whole_clip_is_present_in_all_four(write_video: Write, make_reader: Callable[..., MediaReader]) -> None:
    path = write_video(TIMES, rate=25, tone=(440, 3, 0.3))
    media = make_reader().read(clip_of(path, transcript="yes, but"))
    assert reasons(media) == {"scene": "", "face": "", "audio": "", "text": ""}
    assert media.duration_s == pytest.approx(3.0)
    assert media.scene_frames is not None
    assert media.scene_frames.shape == (16, 224, 224, 3)
    assert media.face_crops is not None
    assert media.face_crops.shape == (30, 224, 224, 3)
    assert media.face_detected is not None
    assert media.face_detected.all()
    assert media.audio is not None
    assert media.audio.dtype == np.float32
    assert (media.transcript, media.transcript_source) == ("yes, but", "corpus")


def test_given_vectors_travel_with_a_clip_of_which_nothing_is_looked_at(write_video: Write, tmp_path: Path) -> None:
    """As for recipes whose views are given vectors alone: no detector is needed, and no words are looked for."""
    clip = replace(clip_of(write_video(TIMES, rate=25)), vectors={"x": np.ones(3, np.float32)})
    media = MediaReader(MediaConfig(), BackboneStore(uri=str(tmp_path / "none")), "cpu", ()).read(clip)
    assert media.vectors["x"].tolist() == [1.0, 1.0, 1.0]
    assert set(reasons(media).values()) == {"not asked for"}


def test_what_is_missing_is_absent_with_a_sentence(write_video: Write, make_reader: Callable[..., MediaReader]) -> None:
    media = make_reader(faces=0).read(clip_of(write_video(TIMES, rate=25), transcript=""))
    assert reasons(media) == {
        "scene": "",
        "face": "no face was found in any of 30 frames",
        "audio": "the file has no sound track",
        "text": "the transcript is empty",
    }
    assert media.face_crops is None
    assert media.face_detected is not None
    assert not media.face_detected.any()
    assert media.audio is None
    assert media.transcript is None


def test_silence_is_no_sound(write_video: Write, make_reader: Callable[..., MediaReader]) -> None:
    quiet = make_reader().read(clip_of(write_video(TIMES, name="quiet.mp4", rate=25, tone=(440, 3, 0.0002))))
    assert quiet.presence[Modality.AUDIO].reason == "the sound track is silent: it stays below -60 dBFS"
    low = make_reader().read(clip_of(write_video(TIMES, name="low.mp4", rate=25, tone=(440, 3, 0.01))))
    assert low.presence[Modality.AUDIO].present


def test_what_was_left_out_of_the_file_is_told(
    write_video: Write, write_subtitled: Write, make_reader: Callable[..., MediaReader]
) -> None:
    path = write_video(TIMES, rate=25, tone=(440, 3, 0.3))
    cut = make_reader(MediaConfig(max_audio_s=1.5)).read(clip_of(path, transcript="yes"))
    assert cut.warnings == ("Only the first 1.5 s of the sound were used.",)
    assert make_reader().read(clip_of(path, transcript="yes")).warnings == ()
    translated = write_subtitled([b"yes, but"], [b"oui, mais"])
    told = ("The file has 2 subtitle tracks; number 1 was used, the rest was left out.",)
    assert make_reader().read(clip_of(translated)).warnings == told
    assert make_reader().read(clip_of(translated, transcript="yes")).warnings == ()


def test_scene_frames_are_fitted_as_the_config_says(
    write_video: Write, make_reader: Callable[..., MediaReader]
) -> None:
    halves = np.zeros((64, 256, 3), np.uint8)
    halves[:, 64:192] = 255
    path = write_video([0, 40], pictures=[halves] * 2, rate=25)
    squeezed = make_reader().read(clip_of(path)).scene_frames
    cropped = make_reader(MediaConfig(scene_fit="crop")).read(clip_of(path)).scene_frames
    assert squeezed is not None
    assert cropped is not None
    assert squeezed.shape == cropped.shape == (16, 224, 224, 3)
    assert squeezed.mean() == pytest.approx(127.5, abs=3)  # half of the frame is white
    assert cropped.mean() == pytest.approx(255, abs=3)  # all of its middle


def test_a_sound_track_too_short_to_hear_is_none_however_long_the_picture(
    write_sounds: Write, make_reader: Callable[..., MediaReader]
) -> None:
    blip = write_sounds([(0, np.full((1, 800), 0.5, np.float32))], picture_s=3)
    assert make_reader().read(clip_of(blip)).presence[Modality.AUDIO].reason == "the sound track is shorter than 0.1 s"


def test_how_many_frames_make_a_face(write_video: Write, make_reader: Callable[..., MediaReader]) -> None:
    clip = clip_of(write_video(TIMES, rate=25))
    strict = make_reader(MediaConfig(min_face_frames=5), faces=4).read(clip)
    assert strict.presence[Modality.FACE].reason == "a face was found in 4 of 30 frames, fewer than 5"
    enough = make_reader(MediaConfig(min_face_frames=5), faces=5).read(clip)
    assert enough.face_crops is not None
    assert enough.face_detected is not None
    assert enough.face_detected.tolist() == [True] * 5 + [False] * 25
    doubtful = make_reader(faces=30, score=0.02).read(clip)
    assert not doubtful.presence[Modality.FACE].present
    as_in_the_paper = make_reader(MediaConfig(min_face_frames=0), faces=0).read(clip)
    assert as_in_the_paper.presence[Modality.FACE].present
    assert as_in_the_paper.face_crops is not None


def test_the_callers_words_and_bytes_come_first(write_video: Write, make_reader: Callable[..., MediaReader]) -> None:
    path = write_video(TIMES, rate=25)
    clip = Clip(clip_id="upload-1", video_uri="upload:", transcript="corpus")
    media = make_reader().read(clip, transcript="caller", source=path.read_bytes())
    assert (media.transcript, media.transcript_source) == ("caller", "caller")
    with pytest.raises(MediaError, match="upload-1 is not a video"):
        make_reader().read(clip, source=b"not a video")


def test_sound_alone_is_a_clip_without_a_picture(
    write_video: Write, make_reader: Callable[..., MediaReader], tmp_path: Path
) -> None:
    import av

    video = write_video(TIMES, rate=25, tone=(440, 3, 0.3))
    path = tmp_path / "sound.m4a"
    with av.open(str(video)) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    media = make_reader().read(clip_of(path))
    assert media.scene_frames is None
    assert media.face_detected is None
    assert media.presence[Modality.SCENE].reason == media.presence[Modality.FACE].reason
    assert media.presence[Modality.SCENE].reason == "the file has no picture that can be decoded"
    assert media.presence[Modality.AUDIO].present
    assert media.duration_s == pytest.approx(3.0, abs=0.1)


def test_one_bad_clip_never_stops_the_others(
    write_video: Write, make_reader: Callable[..., MediaReader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = write_video(TIMES, name="good clip.mp4", rate=25)
    odd = write_video(TIMES[:7], name="odd.mp4", rate=25)
    text = tmp_path / "text.mp4"
    text.write_text("nothing to see\n")
    reader = make_reader()
    read = HalfDetector.detect

    def fails_on_short_clips(self: HalfDetector, frames: Sequence[ByteArray]) -> list[FloatArray]:
        if len({id(frame) for frame in frames}) <= 7:
            raise ZeroDivisionError("a detector's bug")
        return read(self, frames)

    monkeypatch.setattr(HalfDetector, "detect", fails_on_short_clips)
    results = reader.read_many([clip_of(path) for path in (text, good, tmp_path / "missing.mp4", odd, good)])
    assert [type(result) for result in results] == [Failure, ClipMedia, Failure, Failure, ClipMedia]
    failures = [result for result in results if isinstance(result, Failure)]
    assert [failure.stage for failure in failures] == ["decode", "decode", "faces"]
    assert failures[0].clip_id == "text.mp4"
    assert "text.mp4 is not a video" in failures[0].reason
    assert "is not there" in failures[1].reason
    assert "ZeroDivisionError: a detector's bug" in failures[2].reason


def test_the_corpus_crops_take_the_detectors_place(write_video: Write, tmp_path: Path) -> None:
    import cv2

    crops = tmp_path / "crops"
    crops.mkdir()
    for number in range(10):
        cv2.imwrite(str(crops / f"frame-{number}.jpg"), np.full((100, 100, 3), 20 * number, np.uint8))
    reader = MediaReader(MediaConfig(detector="corpus"), BackboneStore(uri=str(tmp_path / "no bundle")))
    path = write_video(TIMES, rate=25)
    media = reader.read(clip_of(path, face_crops_uri=str(crops)))
    assert media.face_crops is not None
    np.testing.assert_allclose(media.face_crops.mean(axis=(1, 2, 3)), np.repeat(np.arange(10) * 20, 3), atol=1)
    without = reader.read(clip_of(path))
    assert without.presence[Modality.FACE].reason == "the corpus has no face crops for this clip"


def test_a_missing_detector_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"detect\.yunet"):
        MediaReader(MediaConfig(detector="yunet"), BackboneStore(uri=str(tmp_path)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scene_frames", 0),
        ("min_face_frames", 31),
        ("min_face_score", 2.0),
        ("detector", "dlib"),
        ("scene_fit", "letterbox"),
        ("max_audio_s", 0.0),
        ("silence_dbfs", 3.0),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: float | str) -> None:
    with pytest.raises(ConfigError, match=field):
        dataclasses.replace(MediaConfig(), **{field: value})  # pyright: ignore[reportArgumentType]


def test_the_config_survives_json() -> None:
    config = MediaConfig(detector="yunet", language=None)
    assert MediaConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_card_from_before_pictures_could_be_cropped_means_squeezed_ones() -> None:
    saved = dataclasses.asdict(MediaConfig())
    del saved["scene_fit"]
    assert from_json(MediaConfig, saved).scene_fit == "squeeze"


FACES = {
    "bbaf2n.mpg": (30, 30),
    "lbbc2a.mpg": (30, 30),
    "sbwe5n.mpg": (30, 30),
    "single_face.mp4": (1, 30),
    "fer_noaudio.mp4": (15, 30),
    "face_noface.mov": (5, 25),  # it leaves midway
    "no_face.mp4": (0, 0),
}


@pytest.mark.parametrize("name", sorted(FACES))
def test_real_clips(
    shared_media: Path, tmp_path: Path, add_role: Callable[[str, Path], BackboneStore], name: str
) -> None:
    folder = tmp_path / "yunet"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((shared_media / "models" / "yunet_n_dynamic.onnx").read_bytes())
    reader = MediaReader(MediaConfig(detector="yunet", max_side_px=640), add_role("detect.yunet", folder))
    (media,) = reader.read_many([clip_of(shared_media / "clips" / name)])
    assert isinstance(media, ClipMedia)
    assert media.presence[Modality.SCENE].present
    least, most = FACES[name]
    assert media.face_detected is not None
    assert least <= media.face_detected.sum() <= most
    assert media.presence[Modality.FACE].present == (most > 0)
    assert media.presence[Modality.AUDIO].present == (name != "fer_noaudio.mp4")
    assert not media.presence[Modality.TEXT].present
