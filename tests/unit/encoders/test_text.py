from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.huggingface import load_backbone
from twominds.encoders.text import TextEncoder, TextEncoderConfig
from twominds.errors import ConfigError
from twominds.records import Features, Modality

Make = Callable[..., Features]
ROLES = ["text.emotion_distilroberta", "text.all_minilm", "text.deberta_base"]


def encoder_of(store: BackboneStore, **settings: Any) -> TextEncoder:
    torch.manual_seed(0)
    example = cast(Features, None)  # it has a backbone: the example is not looked at
    return TextEncoder.pretrained(TextEncoderConfig(**settings), num_outputs=2, store=store, example=example)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_heads_the_pooled_tokens(role: str, pooling: str, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(store, backbone=role, pooling=pooling, hidden_dims=(8, 6)).eval()
    backbone = cast(Any, load_backbone(store, role))
    clips = [features_of(Modality.TEXT, length, seed) for seed, length in enumerate((12, 5, 2))]
    with torch.no_grad():
        output = encoder(encoder.collate(clips))
        for i, clip in enumerate(clips):
            tokens: Tensor = backbone(input_ids=torch.from_numpy(clip.values).unsqueeze(0)).last_hidden_state[0]
            pooled = tokens[0] if pooling == "cls" else tokens.mean(dim=0)
            hidden = torch.relu(encoder.mlp[3](torch.relu(encoder.mlp[0](pooled))))
            torch.testing.assert_close(output.embedding[i], hidden, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(output.logits[i], encoder.classifier(hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden_dims", [(128,), (64, 128), (64, 96, 128)])
def test_mlp_layout(hidden_dims: tuple[int, ...], store: BackboneStore) -> None:
    encoder = encoder_of(store, hidden_dims=hidden_dims, dropout=0.2)
    assert [type(m) for m in encoder.mlp] == [nn.Linear, nn.ReLU, nn.Dropout] * len(hidden_dims)
    widths = [16, *hidden_dims, 2]
    linears = [m for m in [*encoder.mlp, encoder.classifier] if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == list(pairwise(widths))
    assert {m.p for m in encoder.mlp if isinstance(m, nn.Dropout)} == {0.2}
    assert encoder.embedding_dim == 128


@pytest.mark.parametrize("count", [0, 1, 3])
def test_trains_the_top_layers_and_nothing_below(count: int, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(store, trainable_layers=count)
    encoder(encoder.collate([features_of(Modality.TEXT)])).logits.square().sum().backward()
    expected = (*(f"backbone.encoder.layer.{layer}." for layer in range(3 - count, 3)), "mlp.", "classifier.")
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == name.startswith(expected), name


def test_parameter_groups_leave_out_what_is_frozen(store: BackboneStore) -> None:
    encoder = encoder_of(store, trainable_layers=1, backbone_lr_scale=0.5)
    backbone, head = encoder.parameter_groups(1e-3)
    assert (backbone["lr"], head["lr"]) == (5e-4, 1e-3)
    assert all(p.requires_grad for p in backbone["params"])
    frozen = encoder_of(store, trainable_layers=0).parameter_groups(1e-3)
    assert [len(group["params"]) for group in frozen] == [4]


def test_published_size() -> None:
    from transformers import RobertaConfig, RobertaModel

    from twominds.encoders.huggingface import train_top_layers

    config = RobertaConfig(vocab_size=50265, num_hidden_layers=6, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        backbone = cast(nn.Module, RobertaModel(config, add_pooling_layer=False))
    per_layer = 4 * (768**2 + 768) + 2 * 4 * 768**2 + 4 * 768 + 768 + 2 * 1536
    assert sum(p.numel() for p in backbone.parameters()) == (50265 + 514 + 1) * 768 + 1536 + 6 * per_layer
    train_top_layers(backbone, 2)
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == 2 * per_layer


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trainable_layers", -1), ("backbone_lr_scale", 0), ("hidden_dims", ()), ("hidden_dims", (0,)), ("dropout", -0.1)],
)
def test_refuses_settings_out_of_range(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"text\.{setting}"):
        TextEncoderConfig(**{setting: value})
