"""ViT and CLIP on face crops, against Hugging Face's own image processors and models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.errors import BackboneError, ConfigError
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.records import ByteArray, ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
VIT, CLIP = "face.vit_base", "face.clip_vit_b32"
WIDTHS = {VIT: 16, CLIP: 12}
SIZES: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "hidden_size": 16}
IMAGE: dict[str, Any] = {"image_size": 32, "patch_size": 16, **SIZES}


class _Saves(Protocol):
    def save_pretrained(self, folder: Path) -> Any: ...


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """As they are published: ViT with a classifier and no pooler, CLIP with both towers."""
    torch.manual_seed(0)
    words: dict[str, Any] = {"vocab_size": 20, "bos_token_id": 18, "eos_token_id": 19, **SIZES}
    built: dict[str, Any] = {
        VIT: ViTForImageClassification(ViTConfig(**IMAGE)),
        CLIP: CLIPModel(
            CLIPConfig(vision_config={**IMAGE, "projection_dim": 12}, text_config=words, projection_dim=12)
        ),
    }
    for model in built.values():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # so that a forgotten LayerNorm would show
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        model.eval()
    return built


@pytest.fixture(scope="module")
def bundle(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    uri = tmp_path_factory.mktemp("frames")
    for role, model in models.items():
        folder = tmp_path_factory.mktemp("model")
        cast(_Saves, model).save_pretrained(folder)
        add_to_bundle(str(uri), role, folder, BundleEntry(weights="debug", hub_id=None, revision="x", licence="x"))
    return BackboneStore(uri=str(uri))


def crops(seed: int, count: int = 5, size: int = 32) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def extractor_of(role: str, store: BackboneStore) -> FaceFramesFeatures:
    return FaceFramesFeatures(FaceFramesFeaturesConfig(backbone=role, max_batch_frames=3), store, with_pooled=True)


def huggingface(role: str, model: Any, images: ByteArray) -> FloatArray:
    """The published way: the model's own image processor, then the output that its documentation names."""
    size: dict[str, Any] = {"size": {"height": 32, "width": 32}} if role == VIT else {"size": 32, "crop_size": 32}
    processor = cast(Any, ViTImageProcessor if role == VIT else CLIPImageProcessor)(**size)
    pixels = processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        if role == VIT:
            return model.vit(pixel_values=pixels).last_hidden_state[:, 0].numpy()
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output).numpy()


@pytest.mark.parametrize("role", [VIT, CLIP])
def test_embeddings_are_hugging_faces(role: str, models: dict[str, Any], bundle: BackboneStore) -> None:
    features = extractor_of(role, bundle).frame_features(crops(0))
    assert features.dtype == np.float32
    assert features.shape == (5, WIDTHS[role])
    expected = huggingface(role, models[role], crops(0))
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - expected[0]).max() > 0.01  # other crops would have been noticed


@pytest.mark.parametrize("role", [VIT, CLIP])
def test_a_batch_is_as_each_clip_alone_and_pooled_over_its_frames(
    role: str, bundle: BackboneStore, make_clip: MakeClip
) -> None:
    extractor = extractor_of(role, bundle)
    media = [make_clip(str(n), face_crops=crops(n, count=n)) for n in (1, 4)]
    media.insert(0, make_clip("absent", missing=Modality.FACE))
    together = extractor.extract([*media, make_clip("empty")])
    assert [features.clip_id for features in together] == ["absent", "1", "4", "empty"]
    assert together[3].presence.reason == "no face crops were made"
    assert not together[0].presence.present
    for features, clip in zip(together[1:3], media[1:], strict=True):
        (alone,) = extractor.extract([clip])
        assert features.values is not None
        assert features.pooled is not None
        assert alone.values is not None
        np.testing.assert_allclose(features.values, alone.values, atol=1e-5)
        mean, exact = features.values.mean(axis=0), features.values.astype(np.float64)
        std = np.sqrt(((exact - exact.mean(axis=0)) ** 2).mean(axis=0))
        np.testing.assert_allclose(features.pooled, [*mean, *std], atol=1e-5)


@pytest.mark.parametrize("role", [VIT, CLIP])
def test_a_debug_bundle_takes_crops_as_they_are_made(role: str, store: BackboneStore) -> None:
    extractor = FaceFramesFeatures(FaceFramesFeaturesConfig(backbone=role), store)
    features = extractor.frame_features(crops(0, count=2, size=224))
    assert features.shape == (2, {VIT: 48, CLIP: 32}[role])
    assert np.isfinite(features).all()


def test_crops_of_another_size_and_other_models_are_refused(bundle: BackboneStore, store: BackboneStore) -> None:
    with pytest.raises(ConfigError, match=r"takes face crops of 32 px, these have 40 px: set media\.face_size_px"):
        extractor_of(VIT, bundle).frame_features(crops(0, size=40))
    with pytest.raises(BackboneError, match="is not of a ViT or CLIP: text"):
        extractor_of("text.emotion_distilroberta", store)
    with pytest.raises(BackboneError, match="is not of a ViT or CLIP: face"):
        extractor_of("face.emotion_efficientnet_b0", store)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"face\.max_batch_frames"):
        FaceFramesFeaturesConfig(max_batch_frames=0)
