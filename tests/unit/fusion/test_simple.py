import json
import math
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import FUSIONS, FusionConfig, build_fusion
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.fusion.simple import (
    AttentionSumConfig,
    ClassWeighted,
    ClassWeightedConfig,
    ConcatMLPConfig,
    EarlyFusion,
    EarlyFusionConfig,
)
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality, View

FACE, TEXT = Modality.FACE, Modality.TEXT
CONFIGS: list[FusionConfig] = [
    TransformerFusionConfig(hidden_dim=8, num_layers=1, num_heads=2),
    ConflictFusionConfig(hidden_dim=8, num_heads=2, head_dim=4),
    AttentionSumConfig(hidden_dim=8),
    ConcatMLPConfig(hidden_dim=8),
    EarlyFusionConfig(hidden_dim=8),
    ClassWeightedConfig(),
]


def some_inputs() -> FusionInputs:
    generator = torch.Generator().manual_seed(0)
    tokens: dict[View, torch.Tensor] = {m: torch.randn(4, 2, generator=generator) for m in (FACE, TEXT)}
    mask = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    return FusionInputs(tokens=tokens, mask=mask)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_absent_tokens_are_never_read(config: FusionConfig) -> None:
    inputs = some_inputs()
    model = build_fusion(config, dims=inputs.dims, num_outputs=2).eval()
    expected = model(inputs).logits
    assert expected.shape == (4, 2)
    inputs.tokens[TEXT][1] = float("nan")
    inputs.tokens[FACE][2] = 1e9
    assert torch.equal(model(inputs).logits, expected)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_nothing_present_is_finite(config: FusionConfig) -> None:
    inputs = some_inputs()
    inputs.mask[:] = False
    assert torch.isfinite(build_fusion(config, dims=inputs.dims, num_outputs=2).eval()(inputs).logits).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_same_seed_same_weights_and_global_state_untouched(config: FusionConfig) -> None:
    before = torch.get_rng_state()
    one, same = (build_fusion(config, dims={FACE: 2, TEXT: 2}, num_outputs=2, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    if config.kind != "class_weighted":  # which starts from equal weights
        other = build_fusion(config, dims={FACE: 2, TEXT: 2}, num_outputs=2, seed=4)
        assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_every_config_kind_is_in_the_catalogue() -> None:
    assert {config.kind for config in CONFIGS} == set(FUSIONS)


def test_class_weights_by_hand() -> None:
    model = build_fusion(ClassWeightedConfig(), dims={FACE: 2, TEXT: 2}, num_outputs=2)
    assert isinstance(model, ClassWeighted)
    with torch.no_grad():
        model.scores.copy_(torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]))
    tokens: dict[View, torch.Tensor] = {
        FACE: torch.tensor([[1.0, 2.0], [1.0, 2.0]]),
        TEXT: torch.tensor([[3.0, 6.0], [3.0, 6.0]]),
    }
    inputs = FusionInputs(tokens=tokens, mask=torch.tensor([[True, True], [False, True]]))
    torch.testing.assert_close(model(inputs).logits, torch.tensor([[2.0, 0.75 * 2 + 0.25 * 6], [3.0, 6.0]]))


def test_class_weighted_takes_logits_alone() -> None:
    with pytest.raises(ConfigError, match="logits"):
        build_fusion(ClassWeightedConfig(), dims={FACE: 8}, num_outputs=2)
    with pytest.raises(ConfigError, match="standardize"):
        ClassWeightedConfig(standardize="zscore")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_a_saved_config_comes_back_as_what_it_was(config: FusionConfig) -> None:
    restored = TypeAdapter[FusionConfig](FusionConfig).validate_json(json.dumps(asdict(config)))
    assert restored == config
    assert type(restored) is type(config)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_two_views_of_a_modality_are_two_tokens(config: FusionConfig) -> None:
    """Their names have dots, which no part of a torch module may have."""
    of_two = some_inputs()
    inputs = FusionInputs(
        tokens={"face.effnet": of_two.tokens[FACE], "face.vit": of_two.tokens[TEXT]}, mask=of_two.mask
    )
    model = build_fusion(config, dims=inputs.dims, num_outputs=2, seed=3).eval()
    same = build_fusion(config, dims=of_two.dims, num_outputs=2, seed=3).eval()
    assert torch.equal(model(inputs).logits, same(of_two).logits)
    other = build_fusion(config, dims=inputs.dims, num_outputs=2, seed=4).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs).logits, model(inputs).logits)


def test_early_fusion_by_hand() -> None:
    """One network over the tokens side by side, as HSEmotion's 1802 numbers of a frame."""
    inputs = some_inputs()
    model = build_fusion(EarlyFusionConfig(hidden_dim=3, dropout=0.0), dims=inputs.dims, num_outputs=2).eval()
    assert isinstance(model, EarlyFusion)
    with torch.no_grad():
        model.absent[1].copy_(torch.tensor([5.0, -5.0]))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    face, text = (inputs.tokens[m].numpy() for m in (FACE, TEXT))
    for i, seen in enumerate([text[0], [5.0, -5.0]]):  # of the second point the words are absent
        row = [*face[i], *seen]
        hidden = [
            max(0.0, float(weights @ row + bias))
            for weights, bias in zip(state["hidden.0.weight"], state["hidden.0.bias"], strict=True)
        ]
        expected = state["classifier.weight"] @ hidden + state["classifier.bias"]
        assert model(inputs).logits[i].detach().numpy() == pytest.approx(expected, abs=1e-6)
