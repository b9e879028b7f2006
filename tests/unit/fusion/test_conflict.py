"""Conflict-aware fusion against its formulas in NumPy, torch's own Transformer, and the published counts."""

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.conflict import ConflictFusion, ConflictFusionConfig, Form
from twominds.records import Modality, View

Array = npt.NDArray[np.float64]

FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT
DIM = 8
DIMS: dict[View, int] = {FACE: DIM, AUDIO: DIM, TEXT: DIM}
FORMS: tuple[Form, ...] = ("tokens", "concat", "feed_forward")


def config_of(**changes: Any) -> ConflictFusionConfig:
    small = {"hidden_dim": DIM, "num_heads": 2, "head_dim": 5, "dropout": 0.0, "project": False, "one_logit": True}
    return ConflictFusionConfig(**cast(Any, small | changes))


def model_of(config: ConflictFusionConfig, dims: dict[View, int] = DIMS) -> ConflictFusion:
    model = build_fusion(config, dims=dims, num_outputs=2)
    assert isinstance(model, ConflictFusion)
    with torch.no_grad():  # biases and norms away from 0 and 1, so that each of them is seen by the tests
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def inputs_of(dims: dict[View, int] = DIMS, clips: int = 4) -> FusionInputs:
    generator = torch.Generator().manual_seed(0)
    tokens = {view: torch.randn(clips, dim, generator=generator) for view, dim in dims.items()}
    return FusionInputs(tokens=tokens, mask=torch.ones(clips, len(dims), dtype=torch.bool))


def state_of(model: ConflictFusion) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer(p: dict[str, Array], name: str, at: int, x: Array) -> Array:
    normed = layer_norm(x, p[f"{name}.{at}.weight"], p[f"{name}.{at}.bias"])
    return gelu(p[f"{name}.{at + 1}.weight"] @ normed + p[f"{name}.{at + 1}.bias"])


def test_the_vector_of_views_and_differences_by_hand() -> None:
    """[v, a, t, |v - a|, |v - t|, |a - t|] through LayerNorm, Linear, GELU twice, and the head."""
    model, inputs = model_of(config_of(form="feed_forward")), inputs_of()
    p, logits = state_of(model), model(inputs).logits
    for clip in range(len(inputs)):
        v, a, t = (inputs.tokens[view][clip].double().numpy() for view in DIMS)
        x: Array = np.concatenate([v, a, t, abs(v - a), abs(v - t), abs(a - t)]).astype(np.float64)
        hidden = layer(p, "head", 0, layer(p, "feed_forward", 4, layer(p, "feed_forward", 0, x)))
        z = p["head.4.weight"] @ hidden + p["head.4.bias"]
        np.testing.assert_allclose(logits[clip].tolist(), [0.0, z.item()], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["tokens", "concat"])
@pytest.mark.parametrize("conflict", [True, False])
def test_the_transformers_are_torchs_own(form: Form, conflict: bool) -> None:
    """Two pre-norm layers with ReLU, no positions and no last norm; then LayerNorm, Linear, GELU, Linear."""
    model, inputs = model_of(config_of(form=form, conflict=conflict)), inputs_of()
    v, a, t = inputs.tokens.values()
    tokens = torch.stack([v, a, t, *(((v - a).abs(), (v - t).abs(), (a - t).abs()) if conflict else ())], dim=1)
    tokens = tokens if form == "tokens" else tokens.flatten(1).unsqueeze(1)
    width = tokens.shape[2]
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, "relu", batch_first=True, norm_first=True),
        num_layers=2,
        enable_nested_tensor=False,
    ).eval()
    theirs.load_state_dict(model.layers.state_dict(prefix="layers."))
    expected = model.head(theirs(tokens).flatten(1))[:, 0]
    torch.testing.assert_close(model(inputs).logits[:, 1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("form", "count"), [("tokens", 9_454_080), ("concat", 339_840_000)])
def test_the_published_transformers_are_as_large(form: Form, count: int) -> None:
    with torch.device("meta"):
        dims = dict.fromkeys(DIMS, 768)
        model = ConflictFusion(ConflictFusionConfig(form=form, project=False, one_logit=True), dims, 2)
    assert sum(p.numel() for p in model.layers.parameters()) == count
    assert sum(p.numel() for p in model.head.parameters()) == 2_369_537


@pytest.mark.parametrize("form", FORMS)
def test_a_difference_to_an_absent_view_is_none(form: Form) -> None:
    """In the public code it is the other view itself: whatever stood in the absent one's place would be seen."""
    model, inputs = model_of(config_of(form=form)), inputs_of()
    inputs.mask[1, 2] = False
    tokens, there = model.with_differences(inputs)
    assert there[1].tolist() == [True, True, False, True, False, False]
    assert there[0].all()
    assert not tokens[1][~there[1]].any()
    answer = model(inputs).logits
    inputs.tokens[TEXT][1] = 1e6
    assert torch.equal(model(inputs).logits, answer)


def test_two_views_of_a_masked_clip_are_the_two_of_a_smaller_transformer() -> None:
    """Attention leaves absent tokens out: of those that are there it makes what it makes without the others."""
    model, inputs = model_of(config_of()), inputs_of()
    inputs.mask[:, 2] = False
    v, a = inputs.tokens[FACE], inputs.tokens[AUDIO]
    tokens = torch.stack([v, a, (v - a).abs()], dim=1)
    for block in model.layers:
        tokens = cast(Tensor, block(tokens, torch.zeros(1, 1, 1, 1)))
    fused = model(inputs).fused.unflatten(1, (6, DIM))
    torch.testing.assert_close(fused[:, [0, 1, 3]], tokens, rtol=1e-5, atol=1e-5)
    assert not fused[:, [2, 4, 5]].any()


def test_views_of_any_length_are_projected_to_one() -> None:
    dims: dict[View, int] = {FACE: 3, TEXT: 5}
    model, inputs = model_of(config_of(project=True), dims), inputs_of(dims)
    p, (tokens, _) = state_of(model), model.with_differences(inputs)
    face, text = (
        inputs.tokens[view].double().numpy() @ p[f"projections.{view}.weight"].T + p[f"projections.{view}.bias"]
        for view in (FACE, TEXT)
    )
    np.testing.assert_allclose(tokens[:, 2].detach().numpy(), abs(face - text), rtol=1e-5, atol=1e-6)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden_dim=8 values, unlike .*text"):
        build_fusion(config_of(), dims={FACE: DIM, TEXT: 3}, num_outputs=2)
    with pytest.raises(ConfigError, match="two classes, not for 8"):
        build_fusion(config_of(), dims=DIMS, num_outputs=8)
    with pytest.raises(ConfigError, match="num_heads must be a divisor of hidden_dim=8, got 3"):
        config_of(num_heads=3)
