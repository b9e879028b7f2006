from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from twominds.backbones import BackboneStore
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.errors import ConfigError
from twominds.records import Features, Modality

PUBLISHED = {"input_dim": 1280}


def test_is_the_mlp_of_figure_2() -> None:
    encoder = FaceEncoder(FaceEncoderConfig(), num_outputs=2, architecture=PUBLISHED)
    assert [type(module) for module in encoder.mlp] == [nn.Linear, nn.LayerNorm, nn.ReLU, nn.Dropout] * 2
    linears = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [(2560, 16), (16, 256), (256, 2)]
    assert [m.p for m in encoder.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    assert encoder.embedding_dim == 256
    assert sum(p.numel() for p in encoder.parameters()) == 46_386


def test_starts_xavier_uniform_with_zero_biases() -> None:
    torch.manual_seed(0)
    encoder = FaceEncoder(FaceEncoderConfig(), num_outputs=2, architecture=PUBLISHED)
    for linear in (m for m in encoder.modules() if isinstance(m, nn.Linear)):
        bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
        assert 0.9 * bound < linear.weight.abs().max() <= bound
        # Uniform on [-b, b] has standard deviation b / sqrt(3).
        assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.06)
        assert torch.all(linear.bias == 0)


def test_sees_mean_and_population_std_over_the_real_frames() -> None:
    config = FaceEncoderConfig(hidden_dim=3, embedding_dim=4)
    encoder = FaceEncoder(config, num_outputs=2, architecture={"input_dim": 2}).eval()
    rows = [np.array([[1.0, 0.0], [3.0, 4.0]], np.float32), np.array([[5.0, -1.0]], np.float32)]
    statistics = torch.tensor([[2.0, 2.0, 1.0, 2.0], [5.0, -1.0, 0.0, 0.0]])  # eq. 2 by hand
    output = encoder(encoder.stack(rows))
    torch.testing.assert_close(output.embedding, encoder.mlp(statistics))
    torch.testing.assert_close(output.logits, encoder.classifier(encoder.mlp(statistics)))


def test_takes_its_width_from_the_example(store: BackboneStore, features_of: Callable[..., Features]) -> None:
    example = features_of(Modality.FACE)
    encoder = FaceEncoder.pretrained(FaceEncoderConfig(), num_outputs=3, store=store, example=example)
    assert encoder.architecture == {"input_dim": 12}
    assert encoder(encoder.collate([example])).logits.shape == (1, 3)


def test_refuses_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"face\.dropout"):
        FaceEncoderConfig(dropout=1.0)
    with pytest.raises(ConfigError, match=r"face\.hidden_dim"):
        FaceEncoderConfig(hidden_dim=0)
