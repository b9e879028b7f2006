"""Descriptors on face crops: resized as PIL does, embedding before scores, whatever else is in the batch."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from twominds.backbones import BackboneStore
from twominds.backbones.descriptors import DESCRIPTORS, DescriptorNetwork, load_descriptor
from twominds.errors import ConfigError
from twominds.features.face_descriptor import FaceDescriptorFeatures, FaceDescriptorFeaturesConfig, resized
from twominds.features.face_track import crop_features
from twominds.records import ByteArray, ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
ROLES = [role for role, published in DESCRIPTORS.items() if published.architecture != "ddamfn"]
SIDES_PX = {"face.emotimobilefacenet_mtl": 112}
"""How large the images of debug descriptors are, where it is not 64."""


def crops(seed: int, count: int = 4, size: int = 120) -> ByteArray:
    """Smooth pictures: noise would be another one after every way of resizing."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in coarse])


def extractor_of(role: str, store: BackboneStore) -> FaceDescriptorFeatures:
    return FaceDescriptorFeatures(FaceDescriptorFeaturesConfig(backbone=role, max_batch_frames=3), store)


def as_published(role: str, store: BackboneStore, images: ByteArray) -> FloatArray:
    """torchvision's ToTensor and Normalize by hand, the network, W e + b."""
    mean, std = (np.array(values, np.float32) for values in DESCRIPTORS[role].statistics)
    pixels = (images.astype(np.float32) / 255 - mean) / std
    model = load_descriptor(store.folder(role), store.config(role))
    assert isinstance(model, DescriptorNetwork)
    with torch.inference_mode():
        embedding = cast(FloatArray, model.network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy())
    scores = embedding @ model.head.weight.numpy().T + model.head.bias.numpy()
    return np.hstack([embedding, scores])


@pytest.mark.parametrize("role", ROLES)
def test_rows_are_embedding_and_scores_of_the_resized_crop(role: str, store: BackboneStore) -> None:
    squares = resized(torch.from_numpy(crops(0)), SIDES_PX.get(role, 64)).numpy()
    expected = as_published(role, store, squares)
    for images in (crops(0), squares):
        rows = extractor_of(role, store).frame_features(images)
        np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected - expected[0]).max() > 0.1 * np.abs(expected).max()  # other crops would have been noticed


@pytest.mark.parametrize("side_px", [64, 112, 224])
def test_crops_are_resized_as_by_pil(side_px: int) -> None:
    ours = resized(torch.from_numpy(crops(0)), side_px).numpy()
    pil = [Image.fromarray(one).resize((side_px, side_px), Image.Resampling.BILINEAR) for one in crops(0)]
    difference = ours.astype(int) - np.stack([np.asarray(one) for one in pil]).astype(int)
    assert np.abs(difference).max() <= 1  # of 255
    assert (difference == 0).mean() > 0.9


@pytest.mark.parametrize("role", ROLES)
def test_a_batch_is_as_each_clip_alone(role: str, store: BackboneStore, make_clip: MakeClip) -> None:
    extractor = extractor_of(role, store)
    media = [make_clip("absent", missing=Modality.FACE), *(make_clip(str(n), face_crops=crops(n, n)) for n in (1, 4))]
    together = extractor.extract([*media, make_clip("empty")])
    assert [features.presence.present for features in together] == [False, True, True, False]
    for features, clip in zip(together[1:3], media[1:], strict=True):
        (alone,) = extractor.extract([clip])
        np.testing.assert_allclose(cast(Any, features.values), cast(Any, alone.values), rtol=1e-4, atol=1e-5)


def test_a_tracked_face_is_seen_by_the_descriptor_whose_role_is_named(store: BackboneStore) -> None:
    tracked = crop_features("face.emotimobilefacenet_mtl", store, "cpu", max_batch_frames=4)
    expected = extractor_of("face.emotimobilefacenet_mtl", store).frame_features(crops(0))
    np.testing.assert_allclose(tracked.frame_features(crops(0)), expected, atol=1e-5)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"face\.max_batch_frames"):
        FaceDescriptorFeaturesConfig(max_batch_frames=0)
