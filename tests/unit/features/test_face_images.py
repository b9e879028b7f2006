"""Faces as pictures: what is kept is what the face track shows, but for JPEG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from tests.unit.features.test_face_track import Lit, video

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.catalog import backbones_of, build_extractor, features_from_json, streams
from twominds.features.face_images import FaceImagesFeatures, FaceImagesFeaturesConfig, decoded, encoded
from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks
from twominds.media.faces import crop_faces
from twominds.media.reader import MediaConfig
from twominds.records import ClipMedia, Features, Modality

MakeClip = Callable[..., ClipMedia]


@pytest.fixture(autouse=True)
def lit(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(media: MediaConfig, *_: object) -> Lit | None:
        return None if media.detector == "corpus" else Lit()

    monkeypatch.setattr("twominds.features.face_images.build_detector", build)


def images(store: BackboneStore, clip: ClipMedia, media: MediaConfig | None = None, **settings: Any) -> Features:
    config = FaceImagesFeaturesConfig(**settings)
    (found,) = FaceImagesFeatures(config, store, media=media or MediaConfig()).extract([clip])
    return found


def test_a_picture_per_frame(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [70, 110, 150, 0, 60])
    with MediaFile(path) as file:
        frames = [frame for block in frame_blocks(file) for frame in block.frames]
    crops = crop_faces(frames, Lit().detect(frames), 224).crops
    found = images(store, make_clip(video=str(path)), block_frames=2)
    assert found.values is not None
    assert found.times_s is not None
    np.testing.assert_allclose(found.times_s, np.arange(5) / 25)
    assert found.values.dtype == np.uint8
    shown = decoded(found.values, 224).astype(int)
    assert np.abs(shown - crops).mean() < 2
    assert np.abs(shown - crops).max() < 25
    slower = images(store, make_clip(video=str(path)), rate_hz=12.5)
    assert slower.times_s is not None
    np.testing.assert_allclose(slower.times_s, [0, 0.08, 0.16])


def test_a_clip_without_a_face_is_absent(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(video=str(video(tmp_path / "dark.mp4", [0, 0])))
    assert images(store, clip).presence.reason == "no face was found in any frame"
    assert images(store, clip, MediaConfig(min_face_frames=0)).presence.present
    corpus = make_clip(video=clip.video, face_crops_uri=str(tmp_path / "nowhere"))
    assert "no face crop of any" in images(store, corpus, MediaConfig(detector="corpus")).presence.reason


def test_the_nearest_of_the_corpuss_crops_stands_in(store: BackboneStore, make_clip: MakeClip, tmp_path: Path) -> None:
    """Frames 2 and 6 of nine have crops: the clock goes on, so that sound at the same rows is of the same time."""
    path = video(tmp_path / "a.mp4", [70] * 9)
    for number, light in ((2, 40), (6, 200)):
        Image.new("RGB", (64, 64), (light, light, light)).save(tmp_path / f"frame-{number}.jpg")
    clip = make_clip(video=str(path), face_crops_uri=str(tmp_path))
    found = images(store, clip, MediaConfig(detector="corpus"))
    assert found.values is not None
    assert found.times_s is not None
    np.testing.assert_allclose(found.times_s, np.arange(9) / 25)
    lights = decoded(found.values, 8).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(lights, [40] * 5 + [200] * 4, atol=3)


def test_colours_stay_and_sizes_change() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :16] = (200, 30, 60)
    content = encoded(picture, 95)
    padded = np.concatenate([content, np.zeros(100, np.uint8)])[None]
    assert np.abs(decoded(padded, 32)[0].astype(int) - picture).mean() < 3
    assert decoded(padded, 16).shape == (1, 16, 16, 3)


def test_settings_and_the_catalog(store: BackboneStore) -> None:
    for setting in ({"rate_hz": 0.0}, {"quality": 0}, {"block_frames": 0}):
        with pytest.raises(ConfigError, match=f"face.{next(iter(setting))}"):
            FaceImagesFeaturesConfig(**cast(Any, setting))
    with pytest.raises(ConfigError, match="no pooled features"):
        FaceImagesFeatures(FaceImagesFeaturesConfig(), store, with_pooled=True, media=MediaConfig())
    config = FaceImagesFeaturesConfig(rate_hz=6.0)
    assert features_from_json({Modality.FACE: to_json(config)}) == {Modality.FACE: config}
    assert backbones_of(config) == ("face.videomae_base",)
    assert streams(config)
    assert isinstance(build_extractor(Modality.FACE, config, store, with_pooled=False), FaceImagesFeatures)
