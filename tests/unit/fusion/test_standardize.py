import numpy as np
import numpy.typing as npt
import pytest
import torch

from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.standardize import Standardization
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality, View

Array = npt.NDArray[np.float64]

FACE, TEXT = Modality.FACE, Modality.TEXT


def some_inputs(clips: int = 60, dim: int = 9, seed: int = 0) -> tuple[FusionInputs, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens: dict[View, torch.Tensor] = {
        m: 5 + torch.randn(clips, dim, generator=generator) * torch.arange(1, dim + 1) for m in (FACE, TEXT)
    }
    mask = torch.ones(clips, 2, dtype=torch.bool)
    mask[::5, 1] = False
    tokens[TEXT][::5] = float("nan")  # absent: must not count in any statistic
    return FusionInputs(tokens=tokens, mask=mask), torch.arange(clips) % 2


def standardized(
    method: Standardization, components: int, inputs: FusionInputs, labels: torch.Tensor
) -> list[torch.Tensor]:
    config = TransformerFusionConfig(
        hidden_dim=8, num_heads=2, num_layers=1, standardize=method, pca_components=components
    )
    return build_fusion(config, dims=inputs.dims, num_outputs=2, train=(inputs, labels)).present_tokens(inputs)


def zscores(values: Array) -> Array:
    return (values - values.mean(axis=0)) / np.sqrt(((values - values.mean(axis=0)) ** 2).mean(axis=0))


def test_zscores_by_hand_on_present_clips() -> None:
    inputs, labels = some_inputs()
    tokens = standardized("zscore", 1, inputs, labels)
    present = inputs.mask[:, 1]
    expected = zscores(inputs.tokens[TEXT][present].double().numpy())
    np.testing.assert_allclose(tokens[1][present].numpy(), expected, atol=1e-5)
    assert tokens[1][~present].abs().max() == 0


def test_pca_equals_the_eigenvectors_of_the_correlation_matrix() -> None:
    inputs, labels = some_inputs()
    tokens = standardized("pca", 4, inputs, labels)
    scores = zscores(inputs.tokens[FACE].double().numpy())
    variances, vectors = np.linalg.eigh(scores.T @ scores / len(scores))
    expected = scores @ vectors[:, ::-1][:, :4] / np.sqrt(variances[::-1][:4])
    np.testing.assert_allclose(np.abs(tokens[0].numpy()), np.abs(expected), atol=1e-4)


def test_constants_and_undetermined_components_are_dropped_not_blown_up() -> None:
    inputs, labels = some_inputs(clips=5)
    inputs.mask[:] = True
    for token in inputs.tokens.values():
        token.copy_(torch.randn(token.shape, generator=torch.Generator().manual_seed(1)))
        token[:, 0] = 3.0
    for method in ("zscore", "pca", "interaction"):
        for token in standardized(method, 9, inputs, labels):
            assert torch.isfinite(token).all()
            assert token.abs().max() < 10


def test_statistics_are_part_of_the_state() -> None:
    inputs, labels = some_inputs()
    config = TransformerFusionConfig(hidden_dim=8, num_heads=2, num_layers=1, standardize="interaction")
    fitted = build_fusion(config, dims=inputs.dims, num_outputs=2, train=(inputs, labels)).eval()
    loaded = build_fusion(config, dims=inputs.dims, num_outputs=2, seed=9).eval()
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(inputs).logits, loaded(inputs).logits)


def test_interaction_finds_the_two_signals_whose_disagreement_is_the_class() -> None:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (300, 2), generator=generator) * 2.0 - 1
    labels = (signs[:, 0] != signs[:, 1]).long()
    tokens: dict[View, torch.Tensor] = {}
    for column, view in enumerate((FACE, TEXT)):
        direction = torch.nn.functional.normalize(torch.randn(40, generator=generator), dim=0)
        noise = torch.randn(300, 40, generator=generator)
        tokens[view] = 2 * noise[:, :1] * torch.randn(40, generator=generator)  # someone's identity, say
        tokens[view] += noise + 4 * signs[:, column, None] * direction
    inputs = FusionInputs(tokens=tokens, mask=torch.ones(300, 2, dtype=torch.bool))
    projected = standardized("interaction", 12, inputs, labels)
    for column in range(2):
        assert projected[column].shape == (300, 3)
        correlation = np.corrcoef(projected[column][:, 1].numpy(), signs[:, column].numpy())[0, 1]
        assert abs(correlation) > 0.9


def test_too_few_clips_with_a_modality() -> None:
    inputs, labels = some_inputs()
    inputs.mask[1:, 1] = False
    with pytest.raises(TrainingError, match="at least 2"):
        standardized("zscore", 1, inputs, labels)
