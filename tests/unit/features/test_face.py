from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.backbones.efficientnet import build_efficientnet
from twominds.backbones.local_files import import_file
from twominds.backbones.state_dicts import write_state_dict
from twominds.errors import BackboneError, ConfigError
from twominds.features.extractor import normalize_images
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.records import ByteArray, ClipMedia, Modality

MakeClip = Callable[..., ClipMedia]
ROLE = "face.emotion_efficientnet_b0"


def crops(seed: int, count: int = 5) -> ByteArray:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture(scope="module")
def extractor(store: BackboneStore) -> FaceFeatures:
    return FaceFeatures(FaceFeaturesConfig(max_batch_frames=3), store, with_pooled=True)


def test_an_imported_efficientnet_gives_what_timm_gives(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The whole way of published weights: file, import, bundle, features; against timm's own model."""
    folder = tmp_path_factory.mktemp("b0")
    torch.manual_seed(0)
    model: Any = timm.create_model("efficientnet_b0", num_classes=8).eval()
    for name, statistics in model.named_buffers():
        if name.endswith("running_mean"):
            statistics.uniform_(-0.1, 0.1)  # so that forgotten statistics would show
    torch.save(model.state_dict(), folder / "b0.pt")
    import_file(str(folder / "bundle"), ROLE, folder / "b0.pt", staging=folder / "staging")
    extractor = FaceFeatures(FaceFeaturesConfig(), BackboneStore(uri=str(folder / "bundle")))
    with torch.no_grad():
        expected = model.forward_head(
            model.forward_features(normalize_images(torch.from_numpy(crops(0)))), pre_logits=True
        )
    features = extractor.frame_features(crops(0))
    assert features.shape == (5, 1280)
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_published_width_has_timms_own_names_and_shapes() -> None:
    with torch.device("meta"):
        ours = build_efficientnet().state_dict()
        theirs = timm.create_model("efficientnet_b0", num_classes=0).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_pooled_is_mean_and_population_std_over_frames(extractor: FaceFeatures, make_clip: MakeClip) -> None:
    (features,) = extractor.extract([make_clip(face_crops=crops(1))])
    assert features.values is not None
    assert features.pooled is not None
    assert features.values.dtype == np.float32
    dim = features.values.shape[1]
    np.testing.assert_allclose(features.pooled[:dim], features.values.sum(axis=0) / 5, atol=1e-5)
    squares = ((features.values - features.pooled[:dim]) ** 2).sum(axis=0) / 5
    np.testing.assert_allclose(features.pooled[dim:], np.sqrt(squares), atol=1e-5)


def test_order_is_kept_and_a_batch_is_as_each_clip_alone(extractor: FaceFeatures, make_clip: MakeClip) -> None:
    media = [make_clip(str(n), face_crops=crops(n, count=n)) for n in (1, 4, 7)]
    media.insert(0, make_clip("absent", missing=Modality.FACE))
    together = extractor.extract(media)
    assert [features.clip_id for features in together] == ["absent", "1", "4", "7"]
    assert not together[0].presence.present
    for features, clip in zip(together[1:], media[1:], strict=True):
        values = extractor.extract([clip])[0].values
        assert values is not None
        assert clip.face_crops is not None
        assert len(values) == len(clip.face_crops)
        assert features.values is not None
        np.testing.assert_allclose(features.values, values, atol=1e-5)


def test_a_clip_without_crops_is_absent_even_if_marked_present(extractor: FaceFeatures, make_clip: MakeClip) -> None:
    assert extractor.extract([make_clip()])[0].presence.reason == "no face crops were made"


def test_files_of_another_architecture_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("other")
    for name, architecture in (("a", "resnet50"), ("b", "efficientnet_b0")):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(f'{{"architecture": "{architecture}"}}')
        write_state_dict({"weight": torch.zeros(1)}, folder / name / "model.safetensors")
        entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
        add_to_bundle(str(folder / "bundle"), ROLE, folder / name, entry)
        with pytest.raises(BackboneError, match=r"is not of an efficientnet_b0|do not fit EfficientNet-B0"):
            FaceFeatures(FaceFeaturesConfig(), BackboneStore(uri=str(folder / "bundle")))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"face\.max_batch_frames"):
        FaceFeaturesConfig(max_batch_frames=0)
