import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.model import FusionOutput
from twominds.fusion.transformer import TransformerFusion, TransformerFusionConfig
from twominds.records import Modality, View

Array = npt.NDArray[np.float64]

SCENE, FACE, AUDIO, TEXT = Modality.SCENE, Modality.FACE, Modality.AUDIO, Modality.TEXT
SMALL = TransformerFusionConfig(
    hidden_dim=8, num_layers=2, num_heads=2, feedforward_factor=3, prototypes_per_class=3, dropout=0.4
)
DIMS: dict[View, int] = {SCENE: 5, FACE: 4, AUDIO: 3}


def inputs_of(dims: Mapping[View, int], clips: int, seed: int = 0) -> FusionInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens = {view: torch.randn(clips, dim, generator=generator) for view, dim in dims.items()}
    return FusionInputs(tokens=tokens, mask=torch.ones(clips, len(dims), dtype=torch.bool))


def model_of(config: TransformerFusionConfig, dims: Mapping[View, int], seed: int = 0) -> TransformerFusion:
    model = build_fusion(config, dims=dims, num_outputs=2, seed=seed)
    assert isinstance(model, TransformerFusion)
    with torch.no_grad():  # biases and norms away from 0 and 1, so that each of them is seen by the tests
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


@torch.no_grad()
def answer(model: TransformerFusion, inputs: FusionInputs) -> FusionOutput:
    return model(inputs)


# --- LEYA's equations 4 to 9 in NumPy, one clip and one token at a time ---


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def fuse_by_hand(model: TransformerFusion, tokens: dict[View, Array], config: TransformerFusionConfig) -> Array:
    """z_fused of one clip that has exactly the modalities in `tokens` (eq. 4-8)."""
    p = {name: t.double().numpy() for name, t in model.state_dict().items()}
    present: list[Array] = []
    for row, view in enumerate(model.dims):
        if view not in tokens:
            continue
        at = f"projectors.by_modality.{view}."
        u = p[at + "0.weight"] @ tokens[view] + p[at + "0.bias"]
        present.append(gelu(layer_norm(u, p[at + "1.weight"], p[at + "1.bias"])) + p["modality_embedding"][row])
    z = ([p["cls"]] if config.use_cls else []) + present
    width = config.hidden_dim // config.num_heads
    for layer in range(config.num_layers):
        at = f"layers.{layer}."
        normed = [layer_norm(t, p[at + "norm1.weight"], p[at + "norm1.bias"]) for t in z]
        qkv = [p[at + "self_attn.in_proj_weight"] @ t + p[at + "self_attn.in_proj_bias"] for t in normed]
        q, k, v = ([t[i * config.hidden_dim : (i + 1) * config.hidden_dim] for t in qkv] for i in range(3))
        attended: list[Array] = []
        for query in q:
            heads: list[Array] = []
            for head in range(config.num_heads):
                own = slice(head * width, (head + 1) * width)
                scores = np.array([query[own] @ key[own] for key in k]) / math.sqrt(width)
                weights = np.exp(scores) / np.exp(scores).sum()
                heads.append(sum((w * value[own] for w, value in zip(weights, v, strict=True)), np.zeros(width)))
            attended.append(
                p[at + "self_attn.out_proj.weight"] @ np.concatenate(heads) + p[at + "self_attn.out_proj.bias"]
            )
        z = [t + a for t, a in zip(z, attended, strict=True)]
        hidden = [
            gelu(
                p[at + "linear1.weight"] @ layer_norm(t, p[at + "norm2.weight"], p[at + "norm2.bias"])
                + p[at + "linear1.bias"]
            )
            for t in z
        ]
        z = [t + p[at + "linear2.weight"] @ h + p[at + "linear2.bias"] for t, h in zip(z, hidden, strict=True)]
    z = [layer_norm(t, p["norm.weight"], p["norm.bias"]) for t in z]
    return z[0] if config.use_cls else np.mean(z, axis=0)


@pytest.mark.parametrize("use_cls", [False, True])
def test_equations_4_to_9_by_hand_with_an_absent_modality(use_cls: bool) -> None:
    config = replace(SMALL, use_cls=use_cls)
    model = model_of(config, DIMS)
    inputs = inputs_of(DIMS, clips=3)
    inputs.mask[1, 1] = False
    inputs.mask[2, 0] = inputs.mask[2, 2] = False
    output = answer(model, inputs)
    assert output.prototype_logits is not None
    state = {name: t.double().numpy() for name, t in model.state_dict().items()}
    for clip in range(3):
        tokens = {
            view: token[clip].double().numpy()
            for column, (view, token) in enumerate(inputs.tokens.items())
            if inputs.mask[clip, column]
        }
        fused = fuse_by_hand(model, tokens, config)
        np.testing.assert_allclose(output.fused[clip].numpy(), fused, atol=1e-5)
        logits = state["classifier.weight"] @ fused + state["classifier.bias"]
        np.testing.assert_allclose(output.logits[clip].numpy(), logits, atol=1e-5)
        prototypes = state["prototype_head.prototypes"]
        cosine = prototypes @ fused / np.linalg.norm(prototypes, axis=-1) / np.linalg.norm(fused)
        by_hand = np.log(np.exp(cosine / config.prototype_temperature).sum(axis=1))
        np.testing.assert_allclose(output.prototype_logits[clip].numpy(), by_hand, atol=1e-5)


def test_encoder_equals_torch_transformer_encoder() -> None:
    model = model_of(SMALL, DIMS)
    layer = nn.TransformerEncoderLayer(8, 2, 24, 0.4, "gelu", batch_first=True, norm_first=True)
    reference = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False).eval()
    reference.load_state_dict(
        {n: t for n, t in model.state_dict().items() if n.startswith(("layers.", "norm."))}, strict=True
    )
    inputs = inputs_of(DIMS, clips=4)
    inputs.mask[0, 1] = inputs.mask[3, 0] = False
    tokens = model.projectors(model.present_tokens(inputs)) + model.modality_embedding
    encoded: Tensor = reference(tokens, src_key_padding_mask=~inputs.mask)
    mean = (encoded * inputs.mask.unsqueeze(-1)).sum(1) / inputs.mask.sum(1, keepdim=True)
    torch.testing.assert_close(answer(model, inputs).fused, mean)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e9])
def test_what_an_absent_token_holds_never_reaches_answer_or_gradient(garbage: float) -> None:
    model = model_of(SMALL, DIMS)
    inputs = inputs_of(DIMS, clips=3)
    inputs.mask[1, 1] = False
    expected = answer(model, inputs).logits
    inputs.tokens[FACE][1] = garbage
    assert torch.equal(answer(model, inputs).logits, expected)
    model(inputs).logits.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("use_cls", [False, True])
def test_adding_a_masked_modality_changes_nothing(use_cls: bool) -> None:
    wide = model_of(replace(SMALL, use_cls=use_cls), {**DIMS, TEXT: 6})
    narrow = model_of(replace(SMALL, use_cls=use_cls), DIMS)
    state = {n: t for n, t in wide.state_dict().items() if ".text." not in n}
    state["modality_embedding"] = state["modality_embedding"][:3]
    narrow.load_state_dict(state)
    inputs = inputs_of({**DIMS, TEXT: 6}, clips=5)
    inputs.mask[:, 3] = False
    without = FusionInputs(tokens={m: inputs.tokens[m] for m in DIMS}, mask=inputs.mask[:, :3])
    torch.testing.assert_close(answer(wide, inputs).logits, answer(narrow, without).logits)


def test_permuting_clips_permutes_answers() -> None:
    model = model_of(SMALL, DIMS)
    inputs = inputs_of(DIMS, clips=6)
    inputs.mask[2, 0] = inputs.mask[4, 2] = False
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(answer(model, inputs.select(order)).logits, answer(model, inputs).logits[order])


def test_a_clip_alone_scores_as_in_a_batch() -> None:
    model = model_of(SMALL, DIMS)
    inputs = inputs_of(DIMS, clips=8)
    inputs.mask[2, 0] = inputs.mask[4, 2] = False
    together = answer(model, inputs).logits
    for clip in range(8):
        torch.testing.assert_close(answer(model, inputs.select(torch.tensor([clip]))).logits[0], together[clip])


def test_a_clip_without_any_modality_is_finite_and_leaves_its_neighbours_alone() -> None:
    model = model_of(SMALL, DIMS)
    inputs = inputs_of(DIMS, clips=3)
    expected = answer(model, inputs).logits
    inputs.mask[1] = False
    assert inputs.any_present().tolist() == [True, False, True]
    logits = answer(model, inputs).logits
    torch.testing.assert_close(logits[[0, 2]], expected[[0, 2]])
    torch.testing.assert_close(logits[1], model.classifier.bias)


def test_prototypes_never_reach_the_prediction() -> None:
    model = model_of(SMALL, DIMS)
    inputs = inputs_of(DIMS, clips=3)
    expected = answer(model, inputs)
    assert model.prototype_head is not None
    nn.init.normal_(model.prototype_head.prototypes, std=10)
    changed = answer(model, inputs)
    assert torch.equal(changed.logits, expected.logits)
    assert changed.prototype_logits is not None
    assert expected.prototype_logits is not None
    assert not torch.equal(changed.prototype_logits, expected.prototype_logits)


def test_the_prototype_loss_trains_what_is_below_it_and_not_the_classifier() -> None:
    """And the prediction's own loss leaves the prototypes alone: the two meet in the fused representation only."""
    model, inputs = model_of(SMALL, DIMS), inputs_of(DIMS, clips=3)

    def trained_by(loss: Tensor) -> set[str]:
        model.zero_grad()
        loss.backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}

    every = {name for name, _ in model.named_parameters()}
    assert every - trained_by(model(inputs).logits.square().sum()) == {"prototype_head.prototypes"}
    assert every - trained_by(model(inputs).prototype_logits.square().sum()) == {"classifier.weight", "classifier.bias"}


def test_the_diversity_term_is_that_of_the_models_own_prototypes() -> None:
    model = model_of(replace(SMALL, prototypes_per_class=2, diversity_margin=0.1), DIMS)
    assert model.prototype_head is not None
    prototypes = model.prototype_head.prototypes
    with torch.no_grad():
        prototypes.zero_()
        prototypes[0, 0, 0], prototypes[0, 1, 0], prototypes[0, 1, 1] = 2.0, 0.6, 0.8
        prototypes[1, 0, 1], prototypes[1, 1, 0] = 1.0, -3.0
    diversity = model(inputs_of(DIMS, clips=2)).diversity
    # Cosines within the classes: 0.6 and 0; between them: 0, -1, 0.8 and -0.6.
    torch.testing.assert_close(diversity, torch.tensor((0.6 - 0.1) / 2 + (0.8 - 0.1) / 4))
    (gradient,) = torch.autograd.grad(diversity, prototypes)
    assert gradient[0, 1].abs().sum() > 0


def test_without_prototypes_there_is_no_prototype_head() -> None:
    output = answer(model_of(replace(SMALL, prototypes_per_class=0), DIMS), inputs_of(DIMS, clips=2))
    assert output.prototype_logits is None
    assert output.diversity is None


def test_defaults_are_the_papers_selected_configuration() -> None:
    config = TransformerFusionConfig()
    assert (config.hidden_dim, config.num_layers, config.num_heads, config.feedforward_factor) == (128, 6, 4, 6)
    assert (config.use_cls, config.dropout) == (False, 0.45)
    assert (config.prototypes_per_class, config.prototype_temperature) == (16, 0.3)
    assert (config.standardize, config.modality_dropout) == ("none", 0.0)


def test_parameter_count_of_the_papers_configuration() -> None:
    dims: dict[View, int] = {SCENE: 768, FACE: 256, AUDIO: 128, TEXT: 128}
    model = build_fusion(TransformerFusionConfig(), dims=dims, num_outputs=2)
    d, width = 128, 6 * 128
    projectors = sum(dim * d + d + 2 * d for dim in dims.values())
    block = (3 * d * d + 3 * d) + (d * d + d) + (d * width + width) + (width * d + d) + 2 * 2 * d
    expected = projectors + 4 * d + 6 * block + 2 * d + (2 * d + 2) + 2 * 16 * d
    assert sum(p.numel() for p in model.parameters()) == expected == 1_754_882


def test_modality_dropout_hides_in_training_alone_and_never_the_last() -> None:
    model = model_of(replace(SMALL, dropout=0.0, modality_dropout=0.9), DIMS)
    inputs = inputs_of(DIMS, clips=200)
    inputs.mask[:100, 1:] = False
    torch.testing.assert_close(model(inputs).logits, model(inputs).logits)
    expected = model(inputs).logits
    model.train()
    torch.manual_seed(0)
    hidden = model(inputs).logits
    torch.testing.assert_close(hidden[:100], expected[:100])  # their only modality stays
    assert not torch.allclose(hidden[100:], expected[100:])


def test_forward_batches_under_vmap_over_seeds() -> None:
    models = [model_of(replace(SMALL, dropout=0.0), DIMS, seed=seed) for seed in (1, 2)]
    inputs = inputs_of(DIMS, clips=4)
    inputs.mask[1, 1] = False
    parameters, buffers = torch.func.stack_module_state(models)  # pyright: ignore[reportArgumentType] # wants a list of Module

    def logits(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(models[0], (parameters, buffers), (inputs,)).logits

    stacked: Tensor = torch.func.vmap(logits)(parameters, buffers)
    for row, model in enumerate(models):
        torch.testing.assert_close(stacked[row], model(inputs).logits)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_heads", 3),
        ("num_layers", 0),
        ("dropout", 1.0),
        ("prototype_temperature", 0.0),
        ("modality_dropout", 1.0),
        ("standardize", "minmax"),
        ("pca_components", 0),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: float | str) -> None:
    with pytest.raises(ConfigError, match=setting):
        replace(TransformerFusionConfig(), **{setting: value})
