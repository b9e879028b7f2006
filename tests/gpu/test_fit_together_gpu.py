"""Models at once on a GPU against one after another on the CPU: the same learning curves, and no seed in another."""

from dataclasses import replace

import pytest
import torch

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality
from twominds.training.examples import FusionExamples
from twominds.training.fit import FitResult, fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss

pytestmark = pytest.mark.gpu

SEEDS = (42, 2025, 7777, 12345, 31415)
FUSION = TransformerFusionConfig(hidden_dim=32, num_layers=2, num_heads=2, dropout=0.0)
CONFIG = FitConfig(epochs=4, batch_size=16, optimizer="adamw", learning_rate=1e-3, patience=9)
DIMS = {Modality.FACE: 8, Modality.TEXT: 4}


def examples(clips: int, seed: int, device: str) -> FusionExamples:
    """Class 1 of two = the first values of face and text add up to more than zero; either is absent now and then."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {m: torch.randn(clips, dim, generator=generator) for m, dim in DIMS.items()}
    labels = (tokens[Modality.FACE][:, 0] + tokens[Modality.TEXT][:, 0] > 0).long()
    mask = torch.rand(clips, 2, generator=generator) > 0.2
    return FusionExamples(FusionInputs(tokens=tokens, mask=mask), labels, device)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learning_curves_are_those_of_the_cpu(precision: str) -> None:
    config = replace(CONFIG, precision=precision)
    models = [build_fusion(FUSION, dims=DIMS, num_classes=2, seed=seed) for seed in SEEDS]
    together = fit_together(
        models,
        examples(200, 0, "cuda"),
        examples(80, 1, "cuda"),
        [config] * len(SEEDS),
        seeds=SEEDS,
        losses=[FusionLoss()] * len(SEEDS),
        num_classes=2,
        device="cuda",
    )
    for seed, result in zip(SEEDS, together, strict=True):
        alone = build_fusion(FUSION, dims=DIMS, num_classes=2, seed=seed)
        expected = fit(
            alone,
            examples(200, 0, "cpu"),
            examples(80, 1, "cpu"),
            CONFIG,
            seed=seed,
            loss=FusionLoss(),
            num_classes=2,
        )
        assert isinstance(result, FitResult)
        tolerance = 1e-3 if precision == "fp32" else 0.05
        losses = [report.train_loss for report in result.history]
        assert losses == pytest.approx([report.train_loss for report in expected.history], abs=tolerance)
    assert len({result.history[0].train_loss for result in together if isinstance(result, FitResult)}) == len(SEEDS)
