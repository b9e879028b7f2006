from collections.abc import Callable
from typing import Any

import pytest
import torch

from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.temporal import LSTMEncoder, MambaEncoder, TemporalKind, TransformerEncoder
from twominds.errors import ConfigError
from twominds.records import Features, Modality

KINDS: dict[TemporalKind, type] = {"mamba": MambaEncoder, "transformer": TransformerEncoder, "lstm": LSTMEncoder}


def test_published_size_layer_by_layer() -> None:
    with torch.device("meta"):
        encoder = AudioEncoder(AudioEncoderConfig(), num_outputs=2, architecture={"input_dim": 1024})
    mamba = 256 * 1024 + (512 * 4 + 512) + 512 * 32 + (16 * 512 + 512) + 512 * 8 + 512 + 512 * 256
    layers = 2 * (mamba + 2 * 256)
    projection, head = 1024 * 256 + 256, (256 * 128 + 128) + (128 * 2 + 2)
    assert sum(p.numel() for p in encoder.parameters()) == projection + layers + head


def test_pools_the_real_steps_and_heads_the_mean(features_of: Callable[..., Features]) -> None:
    config = AudioEncoderConfig(hidden_dim=8, head_hidden_dim=6, num_layers=1)
    encoder = AudioEncoder(config, num_outputs=2, architecture={"input_dim": 10}).eval()
    clips = [features_of(Modality.AUDIO, length) for length in (40, 9)]
    output = encoder(encoder.collate(clips))
    for i, clip in enumerate(clips):
        steps = encoder.projection(torch.from_numpy(clip.values).unsqueeze(0))
        mask = torch.ones(1, steps.shape[1], dtype=torch.bool)
        pooled = encoder.temporal(steps, mask).mean(dim=1)  # eq. 3 without any padding
        hidden = torch.relu(pooled @ encoder.hidden[0].weight.T + encoder.hidden[0].bias)
        torch.testing.assert_close(output.embedding[i], hidden[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(output.logits[i], encoder.classifier(hidden)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("embedding", "width"), [("hidden", 6), ("pooled", 8)])
def test_options(kind: TemporalKind, embedding: Any, width: int, features_of: Callable[..., Features]) -> None:
    config = AudioEncoderConfig(temporal=kind, hidden_dim=8, head_hidden_dim=6, num_heads=2, embedding=embedding)
    encoder = AudioEncoder(config, num_outputs=2, architecture={"input_dim": 10})
    assert isinstance(encoder.temporal, KINDS[kind])
    assert encoder.embedding_dim == width
    assert encoder(encoder.collate([features_of(Modality.AUDIO)])).embedding.shape == (1, width)


def test_weight_decay_leaves_the_dynamics_alone() -> None:
    encoder = AudioEncoder(AudioEncoderConfig(num_layers=1), num_outputs=2, architecture={"input_dim": 10})
    groups = encoder.parameter_groups(1e-3)
    assert isinstance(encoder.temporal, MambaEncoder)
    dynamics = dict(encoder.temporal.mixers[0].named_parameters(recurse=False))
    assert set(dynamics) == {"A_log", "D"}
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in dynamics.values()}
    assert groups[1]["weight_decay"] == 0.0
    assert "weight_decay" not in groups[0]
    assert sum(len(group["params"]) for group in groups) == len(list(encoder.parameters()))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("num_layers", 0), ("head_hidden_dim", 0), ("dropout", 1.0), ("hidden_dim", 7), ("state_dim", 0)],
)
def test_refuses_settings_out_of_range(setting: str, value: float) -> None:
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigError, match=rf"audio\.{setting}"):
        AudioEncoderConfig(**settings)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"audio\.num_heads"):
        AudioEncoderConfig(temporal="transformer", num_heads=3)
