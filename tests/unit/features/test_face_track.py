"""The face in every frame: what is streamed is what each frame gives by itself."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ConfigError, MediaError
from twominds.features.catalog import backbones_of, build_extractor, features_from_json, streams
from twominds.features.extractor import mean_and_std
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures
from twominds.features.face_track import FaceTrackFeatures, FaceTrackFeaturesConfig
from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks
from twominds.media.faces import crop_faces
from twominds.media.reader import MediaConfig
from twominds.records import ByteArray, ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
BOX = np.array([[8, 8, 56, 56, 0.9]], np.float32)


class Lit:
    """Finds a face in frames that are not black, of a score that is their brightness."""

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        scored = [BOX * np.array([1, 1, 1, 1, frame.mean() / 255 / 0.9], np.float32) for frame in frames]
        return [boxes if frame.mean() > 20 else boxes[:0] for boxes, frame in zip(scored, frames, strict=True)]


@pytest.fixture(autouse=True)
def lit(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(media: MediaConfig, *_: object) -> Lit | None:
        return None if media.detector == "corpus" else Lit()

    monkeypatch.setattr("twominds.features.face_track.build_detector", build)


def video(path: Path, levels: Sequence[int]) -> Path:
    """A frame of each brightness, textured, at 25 a second."""
    texture = np.random.default_rng(0).uniform(0.8, 1.0, (8, 8, 1)).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as output:
        stream = cast(Any, output).add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number, level in enumerate(levels):
            frame = VideoFrame.from_ndarray((texture * level).repeat(3, 2).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def track(
    store: BackboneStore, media: MediaConfig | None = None, *, pooled: bool = False, **config: Any
) -> FaceTrackFeatures:
    return FaceTrackFeatures(FaceTrackFeaturesConfig(**config), store, with_pooled=pooled, media=media or MediaConfig())


@pytest.mark.parametrize("backbone", ["face.emotion_efficientnet_b0", "face.vit_base", "face.clip_vit_b32"])
def test_rows_are_those_of_every_frame_by_itself(
    store: BackboneStore, make_clip: MakeClip, tmp_path: Path, backbone: str
) -> None:
    path = video(tmp_path / "a.mp4", [40, 0, 80, 120, 0, 200, 90])
    extractor = track(store, backbone=backbone, block_frames=3, pooled=True)
    points_s = np.array([0.1, 0.2])
    (features,) = extractor.extract([make_clip(video=str(path), points_s=points_s, warnings=("told",))])
    with MediaFile(path) as file:
        frames = [frame for block in frame_blocks(file) for frame in block.frames]
    backbone_of = cast(Any, extractor)._backbone
    expected = [backbone_of.frame_features(crop_faces([f], Lit().detect([f]), 224).crops)[0] for f in frames]
    assert features.values is not None
    assert features.values.dtype == np.float32
    np.testing.assert_allclose(features.values, expected, atol=1e-5)
    assert features.times_s is not None
    assert features.pooled is not None
    np.testing.assert_allclose(features.times_s, np.arange(7) / 25)
    np.testing.assert_allclose(features.pooled, mean_and_std(features.values), atol=1e-5)
    assert features.points_s is points_s
    assert features.warnings == ("told",)


def test_bytes_are_streamed_like_a_file_and_a_rate_takes_fewer(
    store: BackboneStore, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = video(tmp_path / "a.mp4", [60 + number for number in range(20)])
    data = np.frombuffer(path.read_bytes(), np.uint8)
    extractor = track(store, rate_hz=5.0)
    from_file, from_bytes = extractor.extract([make_clip(video=str(path)), make_clip(video=data)])
    assert from_file.times_s is not None
    assert from_file.times_s.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])
    np.testing.assert_array_equal(from_file.values, from_bytes.values)  # pyright: ignore[reportArgumentType]
    whole = track(store).extract([make_clip(video=str(path))])[0].values
    assert whole is not None
    assert from_file.values is not None
    np.testing.assert_allclose(from_file.values, whole[::5], atol=1e-5)


def test_without_a_face_in_any_frame_it_is_absent(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    dark, dim = video(tmp_path / "dark.mp4", [0] * 5), video(tmp_path / "dim.mp4", [40] * 5)
    media = [
        make_clip("dark", video=str(dark)),
        make_clip("dim", video=str(dim)),  # of a score of 0.14
        make_clip("none"),
        make_clip("missing", missing=Modality.FACE, video=str(dim)),
    ]
    reasons = [features.presence.reason for features in track(store).extract(media)]
    nobody = "no face was found in any frame"
    assert reasons == [nobody, nobody, "the video is not at hand to look for faces in", "left out on purpose"]
    lenient = track(store, MediaConfig(min_face_score=0.1)).extract(media[:2])
    assert [features.presence.present for features in lenient] == [False, True]
    (as_in_the_paper,) = track(store, MediaConfig(min_face_frames=0)).extract(media[:1])
    assert as_in_the_paper.values is not None


def test_a_video_that_has_gone_is_an_error(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not there"):
        track(store).extract([make_clip(video=str(tmp_path / "gone.mp4"))])


def test_frames_without_a_face_may_have_no_row(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    media = [make_clip(video=str(video(tmp_path / "a.mp4", [0, 200, 0, 180, 160])))]
    (whole,) = track(store).extract(media)
    (dropped,) = track(store, without_face="drop", block_frames=2).extract(media)
    assert whole.values is not None
    assert dropped.values is not None
    assert dropped.times_s is not None
    np.testing.assert_allclose(dropped.times_s, np.array([1, 3, 4]) / 25)
    np.testing.assert_allclose(dropped.values, whole.values[[1, 3, 4]], atol=1e-5)
    (none,) = track(store, without_face="drop").extract([make_clip(video=str(video(tmp_path / "b.mp4", [0, 0])))])
    assert none.presence.reason == "no face was found in any frame"


def test_the_corpus_own_crops_are_those_of_their_frames(
    store: BackboneStore, make_clip: MakeClip, tmp_path: Path
) -> None:
    """Aff-Wild2's `00001.jpg` is the first frame; a frame without a file has no face."""
    crops = tmp_path / "crops"
    crops.mkdir()
    images = {number: np.full((20, 16, 3), 40 * number, np.uint8) for number in (1, 3, 4)}
    for number, image in images.items():
        cv2.imwrite(str(crops / f"{number:05}.jpg"), image)
    clip = make_clip(video=str(video(tmp_path / "a.mp4", [100] * 5)), face_crops_uri=str(crops))
    extractor = track(store, MediaConfig(detector="corpus"), without_face="drop")
    (found,) = extractor.extract([clip])
    assert found.times_s is not None
    assert found.values is not None
    np.testing.assert_allclose(found.times_s, np.array([0, 2, 3]) / 25)
    squares = np.stack([np.full((224, 224, 3), 40 * number, np.uint8) for number in images])
    alone = FaceFeatures(FaceFeaturesConfig(), store)
    np.testing.assert_allclose(found.values, alone.frame_features(squares), atol=2e-2)  # JPEG moves a grey by one
    missing = make_clip(video=clip.video, face_crops_uri=str(tmp_path / "nowhere"))
    (absent,) = extractor.extract([missing])
    assert absent.presence.reason == f"the corpus has no face crop of any of its frames (in {tmp_path / 'nowhere'})"


def test_the_catalog_builds_it_and_json_keeps_it(store: BackboneStore) -> None:
    config = FaceTrackFeaturesConfig(backbone="face.vit_base", rate_hz=6.0)
    back = features_from_json({"face.track": to_json(config), "face": to_json(FaceFeaturesConfig())})
    assert back == {"face.track": config, "face": FaceFeaturesConfig()}
    assert backbones_of(config) == ("face.vit_base",)
    assert streams(config)
    assert not streams(FaceFeaturesConfig())
    media = MediaConfig(face_size_px=112)
    extractor = build_extractor("face.track", config, store, with_pooled=False, media=media)
    assert extractor.view == "face.track"
    assert isinstance(extractor, FaceTrackFeatures)
    assert isinstance(cast(Any, extractor)._backbone, FaceFramesFeatures)
    assert cast(Any, extractor)._media is media


@pytest.mark.parametrize("setting", [{"rate_hz": 0.0}, {"block_frames": 0}, {"max_batch_frames": 0}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"face.{next(iter(setting))}"):
        FaceTrackFeaturesConfig(**setting)


def test_the_rows_of_a_sample_are_those_of_the_face_features(
    store: BackboneStore, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = video(tmp_path / "a.mp4", [70, 110, 150])
    with MediaFile(path) as file:
        frames = [frame for block in frame_blocks(file) for frame in block.frames]
    crops = crop_faces(frames, Lit().detect(frames), 224).crops
    (sampled,) = FaceFeatures(FaceFeaturesConfig(), store).extract([make_clip(face_crops=crops)])
    (streamed,) = track(store).extract([make_clip(video=str(path))])
    np.testing.assert_array_equal(sampled.values, streamed.values)  # pyright: ignore[reportArgumentType]
