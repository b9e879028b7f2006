from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import FusionConfig, build_fusion
from twominds.fusion.model import FusionOutput
from twominds.fusion.simple import AttentionSumConfig, ClassWeightedConfig, ConcatMLPConfig, EarlyFusionConfig
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality, View
from twominds.training.examples import FusionExamples
from twominds.training.fit import FitResult, fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss, LossFunction
from twominds.training.metrics import macro_f1
from twominds.training.objective import Objective
from twominds.training.optim import OptimizerName, SchedulerName

FACE, TEXT = Modality.FACE, Modality.TEXT
SEEDS = (3, 7, 11)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Sums in another order then differ by 1e-16, which not even rmsprop's first steps blow up to anything."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def single_precision(double_precision: None) -> None:
    """As it is outside of this file."""
    torch.set_default_dtype(torch.float32)


@dataclass(frozen=True)
class ExactLoss:
    """LEYA's objective, but not in float32, and without smoothing."""

    prototype_weight: float = 0.2

    def __call__(self, output: FusionOutput, labels: Tensor, *, class_weights: Tensor | None, **_: object) -> Tensor:
        weights = None if class_weights is None else class_weights.double()
        loss = F.cross_entropy(output.logits, labels, weight=weights)
        if output.prototype_logits is not None and self.prototype_weight:
            loss = loss + self.prototype_weight * F.cross_entropy(output.prototype_logits, labels, weight=weights)
        return loss


LOSS = ExactLoss()


def examples(clips: int, seed: int, dtype: torch.dtype = torch.float64) -> FusionExamples:
    """Class 1 of two = the first values, mostly of the face, are above a threshold; either is absent now and then."""
    generator = torch.Generator().manual_seed(seed)
    tokens: dict[View, Tensor] = {
        m: torch.randn(clips, dim, generator=generator, dtype=dtype) for m, dim in {FACE: 4, TEXT: 2}.items()
    }
    labels = (tokens[FACE][:, 0] + 0.2 * tokens[TEXT][:, 0] > 0.3).long()
    mask = torch.rand(clips, 2, generator=generator, dtype=dtype) > torch.tensor([0.1, 0.3], dtype=dtype)
    for column, token in enumerate(tokens.values()):
        token[~mask[:, column]] = 0.0
    return FusionExamples(FusionInputs(tokens=tokens, mask=mask), labels)


TRAIN, VALIDATION, OTHER = examples(50, 0), examples(30, 1), examples(25, 2)
TRAIN_SINGLE, VALIDATION_SINGLE = examples(50, 0, torch.float32), examples(30, 1, torch.float32)
CONFIG = FitConfig(epochs=3, batch_size=8, learning_rate=1e-3, patience=9)  # the last batch is a short one
FUSION = TransformerFusionConfig(
    hidden_dim=8, num_layers=1, num_heads=2, feedforward_factor=2, prototypes_per_class=2, dropout=0.0
)


def models(config: FusionConfig = FUSION, seeds: Sequence[int] = SEEDS) -> list[nn.Module]:
    train = (TRAIN.inputs, TRAIN.labels)
    return [build_fusion(config, dims=TRAIN.inputs.dims, num_outputs=2, seed=seed, train=train) for seed in seeds]


def together(
    several: list[nn.Module],
    config: FitConfig,
    *,
    seeds: Sequence[int] = SEEDS,
    train: FusionExamples = TRAIN,
    validation: FusionExamples = VALIDATION,
    loss: LossFunction = LOSS,
    scored_on: Sequence[FusionExamples] = (),
) -> list[FitResult]:
    count = len(several)
    results = fit_together(
        several,
        train,
        validation,
        [config] * count,
        seeds=seeds,
        losses=[loss] * count,
        objective=Objective(),
        scored_on=scored_on,
    )
    return [result for result in results if isinstance(result, FitResult)]


def one_by_one(
    several: list[nn.Module],
    config: FitConfig,
    *,
    seeds: Sequence[int] = SEEDS,
    train: FusionExamples = TRAIN,
    validation: FusionExamples = VALIDATION,
    loss: LossFunction = LOSS,
    scored_on: Sequence[FusionExamples] = (),
) -> list[FitResult]:
    return [
        fit(model, train, validation, config, seed=seed, loss=loss, objective=Objective(), scored_on=scored_on)
        for model, seed in zip(several, seeds, strict=True)
    ]


def check_same(results: Sequence[FitResult], truth: Sequence[FitResult], tolerance: float = 1e-9) -> None:
    assert len(results) == len(truth)
    for result, expected in zip(results, truth, strict=True):
        assert result.best_epoch == expected.best_epoch
        for report, told in zip(result.history, expected.history, strict=True):
            numbers, numbers_told = (replace(r, seconds=0.0).numbers() for r in (report, told))
            # Answers are compared with labels in single precision.
            losses = {name: numbers.pop(name) for name in ("validation_loss", "selection_loss")}
            assert losses == pytest.approx({name: numbers_told.pop(name) for name in losses}, abs=max(tolerance, 1e-6))
            assert numbers == pytest.approx(numbers_told, abs=tolerance)
        assert result.validation_score == expected.validation_score


def check_as_fit(fusion: FusionConfig, config: FitConfig, *, loss: LossFunction = LOSS) -> None:
    """The whole promise: reports, and the best epoch's weights in the models."""
    batched, single = models(fusion), models(fusion)
    check_same(together(batched, config, loss=loss), one_by_one(single, config, loss=loss))
    for model, expected in zip(batched, single, strict=True):
        assert not model.training
        # Not the weights: the gradient of a key's bias, which has no effect, is rounding, blown up by rmsprop.
        answers, told = model(VALIDATION.inputs).logits, expected(VALIDATION.inputs).logits
        torch.testing.assert_close(answers, told, rtol=1e-9, atol=1e-9)


# --- as `fit`, seed by seed ---


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "rate"), [("rmsprop", "cosine", 1e-3), ("adamw", "plateau", 3e-3), ("sgd", "none", 0.05)]
)
def test_optimizers_and_schedules(optimizer: OptimizerName, scheduler: SchedulerName, rate: float) -> None:
    check_as_fit(FUSION, replace(CONFIG, optimizer=optimizer, scheduler=scheduler, learning_rate=rate))


@pytest.mark.parametrize(
    "fusion",
    [
        replace(FUSION, prototypes_per_class=0),
        replace(FUSION, use_cls=True, num_layers=2),
        replace(FUSION, standardize="zscore"),
        AttentionSumConfig(hidden_dim=8, dropout=0.0),
        ConcatMLPConfig(hidden_dim=8, dropout=0.0, standardize="interaction", pca_components=2),
        EarlyFusionConfig(hidden_dim=8, dropout=0.0),
    ],
    ids=["no prototypes", "cls", "zscore", "attention_sum", "concat_mlp", "early"],
)
def test_fusion_models(fusion: FusionConfig) -> None:
    check_as_fit(fusion, CONFIG)


def test_class_weighted_fusion() -> None:
    def two_values(split: FusionExamples) -> FusionExamples:
        tokens = {view: token[:, :2] for view, token in split.inputs.tokens.items()}
        return FusionExamples(FusionInputs(tokens=tokens, mask=split.inputs.mask), split.labels)

    def scores() -> list[nn.Module]:
        return [build_fusion(ClassWeightedConfig(), dims={FACE: 2, TEXT: 2}, num_outputs=2) for _ in SEEDS]

    train, validation = two_values(TRAIN), two_values(VALIDATION)
    results = together(scores(), CONFIG, train=train, validation=validation)
    check_same(results, one_by_one(scores(), CONFIG, train=train, validation=validation))


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": False, "grad_clip": None, "weight_decay": 0.0},
        {"batch_size": 4, "accumulate": 3},
        {"batch_size": 4, "accumulate": 3, "class_weights": False},
        {"evaluation_batch_size": 7},
        {"min_epochs": 3, "patience": 1, "epochs": 8},
        {"batch_size": 99},
    ],
    ids=["plain", "accumulate", "accumulate unweighted", "evaluation", "min_epochs", "one batch"],
)
def test_settings(settings: dict[str, float]) -> None:
    check_as_fit(FUSION, replace(CONFIG, **settings))


def test_the_papers_objective_with_smoothing_and_the_diversity_penalty() -> None:
    """It is in single precision: sgd does not blow its rounding up."""
    loss, config = FusionLoss(diversity_weight=0.5), replace(CONFIG, optimizer="sgd", learning_rate=0.05)
    fusion = replace(FUSION, diversity_margin=-0.9)
    results, truth = together(models(fusion), config, loss=loss), one_by_one(models(fusion), config, loss=loss)
    check_same(results, truth, tolerance=1e-5)


def in_single_precision(config: FitConfig) -> list[tuple[FitResult, FitResult]]:
    results, truth = (
        way(models(), config, train=TRAIN_SINGLE, validation=VALIDATION_SINGLE, loss=FusionLoss())
        for way in (together, one_by_one)
    )
    return list(zip(results, truth, strict=True))


@pytest.mark.usefixtures("single_precision")
def test_in_single_precision_losses_are_as_close_as_rounding_lets_them() -> None:
    for result, told in in_single_precision(CONFIG):
        assert result.history[0].train_loss == pytest.approx(told.history[0].train_loss, abs=1e-5)
        assert result.history[0].validation_loss == pytest.approx(told.history[0].validation_loss, abs=1e-4)
        assert result.history[-1].train_loss == pytest.approx(told.history[-1].train_loss, abs=2e-3)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    loss, config = ExactLoss(prototype_weight=0.0), replace(CONFIG, optimizer="adamw", weight_decay=0.5)
    check_as_fit(FUSION, config, loss=loss)
    several, before = models(), models()
    together(several, config, loss=loss)
    name = "prototype_head.prototypes"
    for model, start in zip(several, before, strict=True):
        assert torch.equal(model.get_parameter(name), start.get_parameter(name))


def test_frozen_parameters_are_left_alone() -> None:
    batched, single = models(), models()
    for model in (*batched, *single):
        model.get_submodule("projectors").requires_grad_(False)
    check_same(together(batched, CONFIG), one_by_one(single, CONFIG))
    for model, start in zip(batched, models(), strict=True):
        name = f"projectors.by_modality.{FACE}.0.weight"
        assert torch.equal(model.get_parameter(name), start.get_parameter(name))


def test_the_splits_that_select_need_not_be_validation() -> None:
    for scored_on in ((OTHER,), (VALIDATION, OTHER)):
        results = together(models(), CONFIG, scored_on=scored_on)
        check_same(results, one_by_one(models(), CONFIG, scored_on=scored_on))


def test_seeds_stop_each_in_its_own_time_and_halve_their_rates_each_at_its_own() -> None:
    config = replace(CONFIG, epochs=16, patience=4, scheduler="plateau", learning_rate=1e-2, optimizer="adamw")
    seeds = tuple(range(6))
    truth = one_by_one(models(seeds=seeds), config, seeds=seeds)
    assert len({len(result.history) for result in truth}) > 2, "the example shows nothing"
    assert len({tuple(r.learning_rate for r in result.history[:9]) for result in truth}) > 1, "nor this"
    assert all(result.best_epoch < len(result.history) for result in truth)
    batched = models(seeds=seeds)
    results = together(batched, config, seeds=seeds)
    check_same(results, truth)
    majority = torch.cat([TRAIN.labels, TRAIN.left_out]).double().mean().round().long()
    labels = torch.cat([VALIDATION.labels, VALIDATION.left_out])
    for model, result in zip(batched, results, strict=True):
        guess = model(VALIDATION.inputs).logits.argmax(dim=1)
        guess = torch.cat([guess, majority.expand(len(VALIDATION.left_out))])
        assert macro_f1(labels.numpy(), guess.numpy(), 2) == result.validation_score, "other weights"


# --- candidates with settings of their own ---

SGD = replace(CONFIG, optimizer="sgd")
CONFIGS = (
    replace(SGD, learning_rate=0.05),
    replace(SGD, learning_rate=0.1, weight_decay=0.01, grad_clip=None, scheduler="plateau"),
    replace(SGD, learning_rate=0.01, label_smoothing=0.2, grad_clip=0.1, scheduler="none"),
)
LOSSES = FusionLoss(diversity_weight=0.5), FusionLoss(prototype_weight=0.7), FusionLoss(prototype_weight=0.05)
TEMPERATURES = 0.3, 0.2, 1.0


def test_candidates_of_one_shape_are_trained_each_by_its_own_settings() -> None:
    def several() -> list[nn.Module]:
        fusion = replace(FUSION, diversity_margin=-0.9)
        return [
            models(replace(fusion, prototype_temperature=temperature), (seed,))[0]
            for temperature, seed in zip(TEMPERATURES, SEEDS, strict=True)
        ]

    batched, single = several(), several()
    results = fit_together(batched, TRAIN, VALIDATION, CONFIGS, seeds=SEEDS, losses=LOSSES, objective=Objective())
    truth = [
        fit(model, TRAIN, VALIDATION, config, seed=seed, loss=loss, objective=Objective())
        for model, seed, config, loss in zip(single, SEEDS, CONFIGS, LOSSES, strict=True)
    ]
    # The objective is in single precision.
    check_same([result for result in results if isinstance(result, FitResult)], truth, tolerance=1e-5)
    for model, expected in zip(batched, single, strict=True):
        torch.testing.assert_close(
            model(VALIDATION.inputs).logits, expected(VALIDATION.inputs).logits, rtol=1e-4, atol=1e-4
        )
        assert model.state_dict().keys() == expected.state_dict().keys()
    # The example would notice settings of a neighbour's.
    swapped = fit(models(seeds=SEEDS[:1])[0], TRAIN, VALIDATION, CONFIGS[1], seed=3, loss=LOSS, objective=Objective())
    assert swapped.history[-1].train_loss != pytest.approx(truth[0].history[-1].train_loss, abs=1e-2)


# --- dropout ---

DROPS = replace(FUSION, dropout=0.4)


class Dropped(nn.Module):
    """Says only what dropout left of a 1: nothing or 2, times 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.dropout = nn.Parameter(torch.ones(1)), nn.Dropout(0.5)

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        left = self.dropout(self.scale.expand(len(inputs.mask), 2))
        return FusionOutput(logits=left, fused=left)


def first_logit(output: FusionOutput, labels: Tensor, **_: object) -> Tensor:
    return output.logits[:, 0].mean()


def test_dropout_differs_from_seed_to_seed_from_step_to_step_and_from_epoch_to_epoch() -> None:
    config = replace(CONFIG, epochs=2, batch_size=1, optimizer="sgd", learning_rate=1e-9)
    results = together([Dropped() for _ in range(3)], config, seeds=(5, 5, 5), loss=first_logit)
    means = [report.train_loss for result in results for report in result.history]
    assert len(set(means)) == len(means)
    assert all(0.3 < mean < 1.7 for mean in means), "the mean of 50 alike draws would be 0 or 2"


def test_the_same_call_gives_the_same_bits_and_leaves_the_global_random_state() -> None:
    before = torch.get_rng_state()
    first, second = models(DROPS), models(DROPS)
    together(first, CONFIG)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(13)
    together(second, CONFIG)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_a_seed_alone_is_fit_with_its_dropout_too() -> None:
    drops = replace(DROPS, modality_dropout=0.3)
    results = together(models(drops, (7,)), CONFIG, seeds=(7,))
    check_same(results, one_by_one(models(drops, (7,)), CONFIG, seeds=(7,)))


def test_with_dropout_seeds_learn_as_well_as_one_by_one() -> None:
    fusion, seeds = AttentionSumConfig(hidden_dim=16, dropout=0.3), tuple(range(5))
    config = replace(CONFIG, epochs=10, patience=10, optimizer="adamw", learning_rate=1e-2)
    results = together(models(fusion, seeds), config, seeds=seeds)
    truth = one_by_one(models(fusion, seeds), config, seeds=seeds)
    mean, expected = (np.mean([result.validation_score for result in several]) for several in (results, truth))
    assert expected > 0.75
    assert mean == pytest.approx(expected, abs=0.05)


# --- precision ---


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize(("precision", "product"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_products_of_training_and_validation(
    precision: Literal["fp32", "bf16"], product: torch.dtype
) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2, bias=False)

        def forward(self, inputs: FusionInputs) -> FusionOutput:
            answer = self.linear(inputs.tokens[FACE])
            seen.append((self.training, answer.dtype))
            return FusionOutput(logits=answer, fused=answer)

    config = replace(CONFIG, precision=precision, epochs=1, batch_size=50)
    watched: list[nn.Module] = [Watched() for _ in SEEDS]
    together(watched, config, train=TRAIN_SINGLE, validation=VALIDATION_SINGLE, loss=FusionLoss())
    assert seen[-2:] == [(True, product), (False, product)]
    assert all(p.dtype == torch.float32 for model in watched for p in model.parameters())


@pytest.mark.usefixtures("single_precision")
def test_bf16_trains_as_fit_does() -> None:
    for result, told in in_single_precision(replace(CONFIG, precision="bf16")):
        losses, losses_told = ([report.train_loss for report in r.history] for r in (result, told))
        assert losses == pytest.approx(losses_told, abs=0.02)
