from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import VideoMAEForVideoClassification, VideoMAEImageProcessor, VideoMAEModel

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.errors import BackboneError, ConfigError
from twominds.features.scene import SceneFeatures, SceneFeaturesConfig
from twominds.records import ByteArray, ClipMedia, Modality

MakeClip = Callable[..., ClipMedia]
ROLE = "scene.videomae_base"


def frames(seed: int, count: int = 16) -> ByteArray:
    """Blocky noise, so that neighbouring pixels are alike as in pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture(scope="module")
def extractor(store: BackboneStore) -> SceneFeatures:
    return SceneFeatures(SceneFeaturesConfig(max_batch_clips=2), store, with_pooled=True)


def huggingface_tokens(store: BackboneStore, clip: ByteArray) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Hugging Face's own processor and model, loaded from the same files."""
    processor = cast(Any, VideoMAEImageProcessor)(
        do_resize=False, do_center_crop=False, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    pixels = processor(list(clip), return_tensors="pt")["pixel_values"]
    model = cast(Any, VideoMAEModel).from_pretrained(store.folder(ROLE)).eval()
    with torch.no_grad():
        return model(pixel_values=pixels).last_hidden_state[0].numpy()


def test_the_pooled_features_are_those_of_hugging_faces_own_output(
    store: BackboneStore, extractor: SceneFeatures, make_clip: MakeClip
) -> None:
    tokens = huggingface_tokens(store, frames(0))
    assert tokens.shape == (8 * 7 * 7, 48)  # patches of 32 px in a tiny bundle
    (features,) = extractor.extract([make_clip(scene_frames=frames(0))])
    assert features.values is not None
    assert features.pooled is not None
    np.testing.assert_array_equal(features.values, frames(0))
    np.testing.assert_allclose(features.pooled[:48], tokens.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(features.pooled[48:], tokens.std(axis=0), atol=1e-5)


def test_what_is_not_pooled_needs_no_backbone(
    store: BackboneStore, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoMAEModel, "from_pretrained", None)
    extractor = SceneFeatures(SceneFeaturesConfig(), store)
    (features,) = extractor.extract([make_clip(scene_frames=frames(0))])
    assert features.values is not None
    assert features.pooled is None
    np.testing.assert_array_equal(features.values, frames(0))
    with pytest.raises(ConfigError, match="takes 16 frames of 224 px, a clip has 8"):
        extractor.extract([make_clip(scene_frames=frames(0, count=8))])


def test_another_kind_of_backbone_is_refused(store: BackboneStore) -> None:
    with pytest.raises(BackboneError, match=r"face\.vit_base is a vit: only a VideoMAE"):
        SceneFeatures(SceneFeaturesConfig(backbone="face.vit_base"), store)


def test_the_tokens_are_those_before_the_classifiers_own_norm(
    store: BackboneStore, extractor: SceneFeatures, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A published checkpoint is a classifier: its keys begin with `videomae.`, and `fc_norm` comes after the mean."""
    folder = tmp_path_factory.mktemp("classifier")
    base = cast(Any, VideoMAEModel).from_pretrained(store.folder(ROLE))
    torch.manual_seed(0)
    classifier = VideoMAEForVideoClassification(base.config)
    classifier.videomae.load_state_dict(base.state_dict())
    classifier.save_pretrained(folder / "files")
    entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(folder / "bundle"), ROLE, folder / "files", entry)
    other = SceneFeatures(SceneFeaturesConfig(), BackboneStore(uri=str(folder / "bundle")), with_pooled=True)
    clip = frames(1)[None]
    np.testing.assert_array_equal(other.tokens(clip), extractor.tokens(clip))


def test_order_is_kept_and_a_batch_is_as_each_clip_alone(extractor: SceneFeatures, make_clip: MakeClip) -> None:
    media = [make_clip(str(seed), scene_frames=frames(seed)) for seed in range(3)]
    media.insert(1, make_clip("absent", missing=Modality.SCENE, scene_frames=frames(9)))
    together = extractor.extract(media)
    assert [features.clip_id for features in together] == ["0", "absent", "1", "2"]
    assert together[1].values is None
    assert together[1].pooled is None
    assert together[1].presence.reason == "left out on purpose"
    for features, clip in zip(together, media, strict=True):
        (alone,) = extractor.extract([clip])
        if features.pooled is not None and alone.pooled is not None:
            np.testing.assert_allclose(features.pooled, alone.pooled, atol=1e-5)


def test_a_clip_without_frames_is_absent_even_if_marked_present(extractor: SceneFeatures, make_clip: MakeClip) -> None:
    assert extractor.extract([make_clip()])[0].presence.reason == "no frames were decoded"


def test_another_number_of_frames_is_a_wrong_setting(extractor: SceneFeatures, make_clip: MakeClip) -> None:
    with pytest.raises(
        ConfigError, match=r"takes 16 frames of 224 px, a clip has 8 of 224 px: set media\.scene_frames"
    ):
        extractor.extract([make_clip(scene_frames=frames(0, count=8))])


def test_bfloat16_is_within_three_percent_of_float32(
    store: BackboneStore, extractor: SceneFeatures, make_clip: MakeClip
) -> None:
    clip = make_clip(scene_frames=frames(0))
    exact = extractor.extract([clip])[0].pooled
    rough = SceneFeatures(SceneFeaturesConfig(precision="bfloat16"), store, with_pooled=True).extract([clip])[0].pooled
    assert exact is not None
    assert rough is not None
    assert rough.dtype == np.float32
    assert np.linalg.norm(rough - exact) < 0.03 * np.linalg.norm(exact)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"scene\.max_batch_clips"):
        SceneFeaturesConfig(max_batch_clips=0)
