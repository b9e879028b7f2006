from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.huggingface import load_backbone
from twominds.encoders.scene import SceneEncoder, SceneEncoderConfig
from twominds.errors import BackboneError, ConfigError
from twominds.records import Features, Modality

Make = Callable[..., Features]


def encoder_of(store: BackboneStore, features_of: Make, **settings: Any) -> SceneEncoder:
    torch.manual_seed(0)
    config = SceneEncoderConfig(**settings)
    return SceneEncoder.pretrained(config, num_outputs=2, store=store, example=features_of(Modality.SCENE))


def test_embedding_is_the_average_of_the_output_tokens(store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(store, features_of).eval()
    clip = features_of(Modality.SCENE)
    frames = cast(Any, clip.values).astype(np.float64) / 255
    pixels = (frames - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # ImageNet's statistics
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float().unsqueeze(0)
    backbone = cast(Any, load_backbone(store, "scene.videomae_base"))
    with torch.no_grad():
        tokens: Tensor = backbone(pixel_values=inputs).last_hidden_state
        output = encoder(encoder.collate([clip]))
    assert tokens.shape == (1, 2 * 2 * 2, 12)  # tubelets of 2 x 16 x 16
    embedding = tokens.numpy()[0].sum(axis=0) / 8  # eq. 1
    np.testing.assert_allclose(output.embedding.numpy()[0], embedding, atol=1e-5)
    classifier = encoder.classifier
    expected = embedding @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
    np.testing.assert_allclose(output.logits.detach().numpy()[0], expected, atol=1e-5)


def test_published_size() -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    with torch.device("meta"):
        backbone = cast(torch.nn.Module, VideoMAEModel(VideoMAEConfig()))
    # 12 layers of 7,087,104 (two LayerNorms, query and value biases, 4 x MLP) and the tubelet projection.
    per_layer = 2 * 1536 + 3 * 768**2 + 2 * 768 + 768**2 + 768 + 2 * 4 * 768**2 + 4 * 768 + 768
    assert sum(p.numel() for p in backbone.parameters()) == 12 * per_layer + 3 * 2 * 16 * 16 * 768 + 768


def test_fine_tunes_the_whole_backbone_by_default(store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(store, features_of, backbone_lr_scale=0.1)
    encoder(encoder.collate([features_of(Modality.SCENE)])).logits.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    backbone, head = encoder.parameter_groups(2e-5)
    assert backbone["lr"] == pytest.approx(2e-6)
    assert head["lr"] == 2e-5
    assert [id(p) for p in head["params"]] == [id(p) for p in encoder.classifier.parameters()]


def test_trainable_layers_freezes_the_rest(store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(store, features_of, trainable_layers=1)
    trainable = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable
    assert all(name.startswith(("backbone.encoder.layer.2.", "classifier.")) for name in trainable)


def test_refuses_settings_out_of_range(store: BackboneStore, features_of: Make) -> None:
    with pytest.raises(ConfigError, match=r"scene\.trainable_layers"):
        SceneEncoderConfig(trainable_layers=-1)
    with pytest.raises(ConfigError, match=r"scene\.backbone_lr_scale"):
        SceneEncoderConfig(backbone_lr_scale=0)
    with pytest.raises(ConfigError, match="only 3 layers"):
        encoder_of(store, features_of, trainable_layers=4)


def test_names_a_backbone_that_the_bundle_lacks(features_of: Make, tmp_path: Any) -> None:
    with pytest.raises(BackboneError, match=r"scene\.videomae_base"):
        encoder_of(BackboneStore(uri=str(tmp_path)), features_of)
