from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from twominds.backbones import BackboneStore
from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.face_frames import FaceFramesEncoder, FaceFramesEncoderConfig
from twominds.encoders.temporal import TemporalKind
from twominds.errors import ConfigError
from twominds.records import Features, Modality

SMALL: dict[str, Any] = {"hidden_dim": 8, "head_hidden_dim": 6, "num_layers": 1, "num_heads": 2}
LENGTHS = (7, 3, 11, 4)


@pytest.mark.parametrize("temporal", ["mamba", "transformer", "lstm"])
def test_is_the_audio_encoder_over_frames(temporal: TemporalKind, features_of: Callable[..., Features]) -> None:
    """The same tensors under the same names: a state dict of one gives the other the same outputs."""
    frames = FaceFramesEncoder(
        FaceFramesEncoderConfig(temporal=temporal, **SMALL), num_outputs=2, architecture={"input_dim": 12}
    )
    audio = AudioEncoder(AudioEncoderConfig(temporal=temporal, **SMALL), num_outputs=2, architecture={"input_dim": 12})
    audio.load_state_dict(frames.state_dict())
    inputs = frames.collate([features_of(Modality.FACE, length) for length in LENGTHS])
    with torch.no_grad():
        assert torch.equal(frames.eval()(inputs).logits, audio.eval()(inputs).logits)


@pytest.mark.parametrize("temporal", ["mamba", "transformer", "lstm"])
def test_padding_changes_nothing_and_the_order_of_frames_counts(
    temporal: TemporalKind, store: BackboneStore, features_of: Callable[..., Features]
) -> None:
    torch.manual_seed(0)
    clips = [features_of(Modality.FACE, length, seed) for seed, length in enumerate(LENGTHS)]
    config = FaceFramesEncoderConfig(temporal=temporal, **SMALL)
    encoder = FaceFramesEncoder.pretrained(config, num_outputs=3, store=store, example=clips[0]).eval()
    assert encoder.architecture == {"input_dim": 12}
    with torch.no_grad():
        together = encoder(encoder.collate(clips))
        for clip, logits in zip(clips, together.logits, strict=True):
            torch.testing.assert_close(encoder(encoder.collate([clip])).logits[0], logits, atol=1e-6, rtol=1e-5)
        inputs = encoder.collate(clips[:1])
        backwards = encoder({**inputs, "values": inputs["values"].flip(1)})
    assert together.logits.shape == (4, 3)
    assert together.embedding.shape == (4, 6)
    assert not torch.allclose(backwards.logits[0], together.logits[0], atol=1e-5)


def test_published_size_over_vit() -> None:
    with torch.device("meta"):
        encoder = FaceFramesEncoder(
            FaceFramesEncoderConfig(temporal="transformer", num_layers=1),
            num_outputs=2,
            architecture={"input_dim": 768},
        )
    attention, norms = 4 * (256 * 256 + 256), 2 * 2 * 256
    layer = attention + (256 * 512 + 512) + (512 * 256 + 256) + norms
    expected = (768 * 256 + 256) + layer + (256 * 128 + 128) + (128 * 2 + 2)
    assert sum(p.numel() for p in encoder.parameters()) == expected
    assert isinstance(encoder.projection, nn.Linear)


def test_refuses_settings_out_of_range_by_the_name_of_its_modality() -> None:
    with pytest.raises(ConfigError, match=r"face\.hidden_dim must be even"):
        FaceFramesEncoderConfig(hidden_dim=7)
    with pytest.raises(ConfigError, match=r"face\.num_heads must divide face\.hidden_dim"):
        FaceFramesEncoderConfig(temporal="transformer", num_heads=3)
