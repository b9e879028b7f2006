"""Models at once on a GPU against one after another on the CPU: the same learning curves, and no seed in another."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import FusionConfig, build_fusion
from twominds.fusion.simple import AttentionSumConfig, ClassWeightedConfig, ConcatMLPConfig
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality, View
from twominds.training.examples import FusionExamples
from twominds.training.fit import FitResult, fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective

pytestmark = pytest.mark.gpu

SEEDS = (42, 2025, 7777, 12345, 31415)
FUSION = TransformerFusionConfig(hidden_dim=32, num_layers=2, num_heads=2, dropout=0.0)
CONFIG = FitConfig(epochs=4, batch_size=16, optimizer="adamw", learning_rate=1e-3, patience=9)
DIMS: dict[View, int] = {Modality.FACE: 8, Modality.TEXT: 4}


def examples(clips: int, seed: int, device: str, dims: dict[View, int] = DIMS) -> FusionExamples:
    """Class 1 of two = the first values of face and text add up to more than zero; either is absent now and then."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {m: torch.randn(clips, dim, generator=generator) for m, dim in dims.items()}
    labels = (tokens[Modality.FACE][:, 0] + tokens[Modality.TEXT][:, 0] > 0).long()
    mask = torch.rand(clips, 2, generator=generator) > 0.2
    return FusionExamples(FusionInputs(tokens=tokens, mask=mask), labels, device)


def models(fusion: FusionConfig, dims: dict[View, int] = DIMS) -> list[nn.Module]:
    train = examples(200, 0, "cpu", dims)
    return [
        build_fusion(fusion, dims=dims, num_outputs=2, seed=seed, train=(train.inputs, train.labels)) for seed in SEEDS
    ]


def together(several: list[nn.Module], config: FitConfig, dims: dict[View, int] = DIMS) -> list[FitResult]:
    results = fit_together(
        several,
        examples(200, 0, "cuda", dims),
        examples(80, 1, "cuda", dims),
        [config] * len(SEEDS),
        seeds=SEEDS,
        losses=[FusionLoss()] * len(SEEDS),
        objective=Objective(),
        device="cuda",
    )
    return [result for result in results if isinstance(result, FitResult)]


def on_the_cpu(several: list[nn.Module], config: FitConfig, dims: dict[View, int] = DIMS) -> list[FitResult]:
    train, validation = examples(200, 0, "cpu", dims), examples(80, 1, "cpu", dims)
    return [
        fit(model, train, validation, config, seed=seed, loss=FusionLoss(), objective=Objective())
        for seed, model in zip(SEEDS, several, strict=True)
    ]


def check_same(results: list[FitResult], truth: list[FitResult], tolerance: float) -> None:
    assert len(results) == len(truth) == len(SEEDS)
    for result, told in zip(results, truth, strict=True):
        losses, expected = ([report.train_loss for report in r.history] for r in (result, told))
        assert losses == pytest.approx(expected, abs=tolerance)
        rates, rates_told = ([report.learning_rate for report in r.history] for r in (result, told))
        assert rates == pytest.approx(rates_told)
    assert len({result.history[0].train_loss for result in results}) == len(SEEDS)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.05)])
def test_learning_curves_are_those_of_the_cpu(precision: str, tolerance: float) -> None:
    truth = on_the_cpu(models(FUSION), CONFIG)
    check_same(together(models(FUSION), replace(CONFIG, precision=precision)), truth, tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "rmsprop", "learning_rate": 1e-4},
        {"optimizer": "sgd", "learning_rate": 0.02},
        {"accumulate": 3},
        {"batch_size": 256},
    ],
    ids=["rmsprop", "sgd", "accumulate", "one batch"],
)
def test_settings(settings: dict[str, float]) -> None:
    config = replace(CONFIG, **settings)
    check_same(together(models(FUSION), config), on_the_cpu(models(FUSION), config), 1e-3)


@pytest.mark.parametrize(
    "fusion",
    [
        replace(FUSION, use_cls=True, standardize="zscore"),
        AttentionSumConfig(hidden_dim=32, dropout=0.0),
        ConcatMLPConfig(hidden_dim=32, dropout=0.0, standardize="interaction", pca_components=2),
    ],
    ids=["cls", "attention_sum", "concat_mlp"],
)
def test_fusion_models(fusion: FusionConfig) -> None:
    check_same(together(models(fusion), CONFIG), on_the_cpu(models(fusion), CONFIG), 1e-3)


def test_class_weighted_fusion() -> None:
    """It has no seed of its own: only the order of clips differs."""
    dims: dict[View, int] = {Modality.FACE: 2, Modality.TEXT: 2}
    fusion = ClassWeightedConfig()
    check_same(together(models(fusion, dims), CONFIG, dims), on_the_cpu(models(fusion, dims), CONFIG, dims), 1e-3)


def test_models_stop_each_in_its_own_time() -> None:
    """What is recorded is recorded anew when a row goes; each of the others trains on as if alone."""
    config = replace(CONFIG, epochs=12, patience=2, scheduler="plateau", learning_rate=5e-3)
    results = together(models(FUSION), config)
    assert len({len(result.history) for result in results}) > 1, "the example shows nothing"
    truth = on_the_cpu(models(FUSION), replace(config, patience=99))
    for result, told in zip(results, truth, strict=True):
        losses = [report.train_loss for report in result.history[:4]]
        assert losses == pytest.approx([report.train_loss for report in told.history[:4]], abs=0.02)


def test_recorded_steps_draw_the_dropout_masks_of_steps_that_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = replace(FUSION, dropout=0.3, modality_dropout=0.2)
    recorded = together(models(fusion), CONFIG)
    state = torch.cuda.get_rng_state()
    again = together(models(fusion), CONFIG)
    assert torch.equal(torch.cuda.get_rng_state(), state)

    class Called:
        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            self.function = function

        def __call__(self, argument: Tensor) -> Tensor:
            return self.function(argument)

        def forget(self) -> None:
            pass

    monkeypatch.setattr("twominds.training.fit_together.Replayed", Called)
    check_same(recorded, together(models(fusion), CONFIG), 1e-4)
    check_same(again, recorded, 1e-4)
