from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from twominds.errors import ConfigError, MissingInputError, TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.model import Fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality
from twominds.training.examples import FusionExamples
from twominds.training.fit import EpochReport, FitConfig, FitResult, fit
from twominds.training.fit_state import FitState
from twominds.training.losses import FusionLoss, loss_of_logits
from twominds.training.objective import CriterionName, Objective
from twominds.training.optim import OptimizerName, SchedulerName

FACE, TEXT = Modality.FACE, Modality.TEXT
NOBODY = torch.zeros(0, dtype=torch.long)
CONFIG = FitConfig(epochs=6, batch_size=8, learning_rate=1e-3, patience=6)


def examples(clips: int, seed: int) -> FusionExamples:
    """Class = sign of the first face value, with a little noise; text is absent now and then."""
    generator = torch.Generator().manual_seed(seed)
    face, text = (torch.randn(clips, dim, generator=generator) for dim in (4, 3))
    labels = (face[:, 0] + 0.2 * torch.randn(clips, generator=generator) > 0).long()
    mask = torch.rand(clips, 2, generator=generator) > 0.2
    mask[:, 0] = True
    return FusionExamples(FusionInputs(tokens={FACE: face, TEXT: text}, mask=mask), labels)


TRAIN, VALIDATION = examples(50, 0), examples(30, 1)


def model_of(seed: int = 0, dropout: float = 0.1) -> Fusion:
    config = TransformerFusionConfig(hidden_dim=8, num_layers=1, num_heads=2, prototypes_per_class=2, dropout=dropout)
    return build_fusion(config, dims=TRAIN.inputs.dims, num_outputs=2, seed=seed)


def trained(seed: int = 0, config: FitConfig = CONFIG) -> tuple[FitResult, dict[str, Tensor]]:
    model = model_of()
    result = fit(model, TRAIN, VALIDATION, config, seed=seed, loss=FusionLoss(), objective=Objective())
    return result, model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(result: FitResult) -> list[tuple[float, float, float]]:
    return [(epoch.train_loss, epoch.validation_loss, epoch.validation_score) for epoch in result.history]


def test_same_seed_is_bit_for_bit_the_same_and_two_seeds_differ() -> None:
    result, weights = trained(seed=7)
    torch.rand(13)  # what the global random state is in must not matter
    again, weights_again = trained(seed=7)
    other, other_weights = trained(seed=8)
    assert losses(result) == losses(again)
    assert same(weights, weights_again)
    assert losses(result) != losses(other)
    assert not same(weights, other_weights)


def test_global_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)


def test_training_learns() -> None:
    result, _ = trained(config=replace(CONFIG, epochs=15, patience=15, learning_rate=1e-2, optimizer="adamw"))
    assert result.validation_score > 0.75
    assert result.history[-1].train_loss < result.history[0].train_loss


class InterruptedByTestError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw", "sgd"])
@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_interrupted_and_resumed_equals_uninterrupted(
    optimizer: OptimizerName, scheduler: SchedulerName, tmp_path: Path
) -> None:
    config = replace(CONFIG, optimizer=optimizer, scheduler=scheduler)
    result, weights = trained(config=config)

    def stop(report: EpochReport) -> None:
        report.fit_state().save(str(tmp_path))
        if report.epoch == 3:
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        fit(model_of(), TRAIN, VALIDATION, config, seed=0, loss=FusionLoss(), objective=Objective(), on_epoch=stop)
    torch.rand(5)
    model = model_of(seed=99)
    state = FitState.load(str(tmp_path))
    resumed = fit(model, TRAIN, VALIDATION, config, seed=0, loss=FusionLoss(), objective=Objective(), resume=state)
    assert losses(resumed) == losses(result)
    assert resumed.best_epoch == result.best_epoch
    assert same(weights, model.state_dict())


def test_resuming_what_is_finished_trains_no_further() -> None:
    states: list[FitState] = []
    model = model_of()
    kept: Callable[[EpochReport], None] = lambda report: states.append(report.fit_state())  # noqa: E731
    result = fit(model, TRAIN, VALIDATION, CONFIG, seed=0, loss=FusionLoss(), objective=Objective(), on_epoch=kept)
    resumed_model = model_of(seed=99)
    resumed = fit(
        resumed_model, TRAIN, VALIDATION, CONFIG, seed=0, loss=FusionLoss(), objective=Objective(), resume=states[-1]
    )
    assert losses(resumed) == losses(result)
    assert same(model.state_dict(), resumed_model.state_dict())


def test_a_state_of_another_seed_or_of_nothing_is_refused(tmp_path: Path) -> None:
    states: list[FitState] = []
    once = replace(CONFIG, epochs=1)
    kept: Callable[[EpochReport], None] = lambda report: states.append(report.fit_state())  # noqa: E731
    fit(model_of(), TRAIN, VALIDATION, once, seed=0, loss=FusionLoss(), objective=Objective(), on_epoch=kept)
    with pytest.raises(TrainingError, match="seed 0"):
        fit(model_of(), TRAIN, VALIDATION, CONFIG, seed=1, loss=FusionLoss(), objective=Objective(), resume=states[0])
    with pytest.raises(MissingInputError):
        FitState.load(str(tmp_path / "nowhere"))


def test_a_report_outside_of_training_has_no_state() -> None:
    result, _ = trained()
    with pytest.raises(RuntimeError, match="on_epoch"):
        result.history[0].fit_state()


# --- a model whose validation answers are scripted, to see what selects ---


@dataclass(frozen=True)
class Output:
    logits: Tensor


class Scripted(nn.Module):
    """Answers validation in epoch e with script[e]: (how many of 4 clips are right, confidence)."""

    def __init__(self, script: list[tuple[int, float]]) -> None:
        super().__init__()
        self.script = script
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.epoch: Tensor
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, labels: Tensor) -> Output:
        if self.training:
            self.epoch += 1
            return Output(logits=self.weight * torch.ones(len(labels), 2))
        right, confidence = self.script[int(self.epoch) - 1]
        sign = torch.where(torch.arange(4) < right, 1.0, -1.0) * confidence
        return Output(logits=torch.stack([(1 - 2 * labels) * sign, (2 * labels - 1) * sign], dim=1))


class FourClips:
    in_memory = True
    labels = torch.tensor([0, 1, 0, 1])
    left_out = NOBODY

    def __len__(self) -> int:
        return 4

    def batch(self, indices: Tensor) -> Tensor:
        return self.labels[indices]


def scripted(script: list[tuple[int, float]], **settings: int) -> tuple[FitResult, int]:
    model = Scripted(script)
    config = replace(FitConfig(batch_size=4, epochs=len(script), patience=99), **settings)
    result = fit(model, FourClips(), FourClips(), config, seed=0, loss=loss_of_logits, objective=Objective())
    return result, int(model.epoch)


def test_best_epoch_is_of_macro_f1_and_its_weights_come_back() -> None:
    result, restored = scripted([(2, 0.1), (4, 0.1), (3, 0.9)])
    assert (result.best_epoch, restored, result.validation_score) == (2, 2, 1.0)


def test_of_equal_macro_f1_the_lower_loss_wins() -> None:
    assert scripted([(4, 0.1), (4, 0.9), (4, 0.5)])[0].best_epoch == 2
    assert scripted([(4, 0.9), (4, 0.9)])[0].best_epoch == 1


class AndMore(FourClips):
    """The four clips, and some of which nothing is there."""

    def __init__(self, *labels: int) -> None:
        self.left_out = torch.tensor(labels)


def test_clips_that_cannot_be_answered_count_and_get_the_training_majority() -> None:
    model, config = Scripted([(4, 0.1)]), FitConfig(batch_size=4, epochs=1, patience=1)
    result = fit(model, AndMore(1), AndMore(0, 1), config, seed=0, loss=loss_of_logits, objective=Objective())
    # Four are right, and two get class 1, of which training has more. Class 0: TP 2, FN 1; class 1: TP 3, FP 1.
    assert result.validation_score == result.selection_score == pytest.approx((4 / 5 + 6 / 7) / 2)
    alone, _ = scripted([(4, 0.1)])
    assert alone.validation_score == 1.0
    assert result.validation_loss == alone.validation_loss, "a loss is one of answers"


class Wrong(FourClips):
    """The same clips under the other labels."""

    labels = 1 - FourClips.labels

    def batch(self, indices: Tensor) -> Tensor:
        return FourClips.labels[indices]


def test_the_mean_over_the_splits_that_select_is_the_epochs_rank() -> None:
    script = [(2, 0.5), (4, 0.1), (3, 0.9)]

    def selected(*scored_on: FourClips) -> FitResult:
        config = FitConfig(batch_size=4, epochs=3, patience=99)
        clips = FourClips()
        model = Scripted(script)
        result = fit(
            model, clips, clips, config, seed=0, loss=loss_of_logits, objective=Objective(), scored_on=scored_on
        )
        assert int(model.epoch) == result.best_epoch, "the weights of another epoch came back"
        return result

    assert selected(FourClips()).best_epoch == selected().best_epoch == 2
    assert selected(Wrong()).best_epoch == 1, "right on two of four clips under either labels"
    both = selected(FourClips(), Wrong())
    # Macro F1 under the right and the wrong labels: 1/2 and 1/2, 1 and 0, 11/15 and 1/5. Epoch 2 has the lower loss.
    assert [epoch.selection_score for epoch in both.history] == pytest.approx([1 / 2, 1 / 2, 7 / 15])
    assert (both.best_epoch, both.validation_score, both.selection_score) == (2, 1.0, 0.5)
    p = 1 / (1 + np.exp(-0.2))
    assert both.selection_loss == pytest.approx(-(np.log(p) + np.log(1 - p)) / 2, rel=1e-6)


def test_patience_counts_from_the_best_epoch_on() -> None:
    script = [(4, 0.5)] + [(2, 0.5)] * 11
    assert len(scripted(script, patience=3)[0].history) == 4
    assert len(scripted(script, patience=20)[0].history) == 12
    # The seventh epoch is the first that can be the best; three more are not better.
    assert len(scripted(script, patience=3, min_epochs=6)[0].history) == 10


def test_no_epoch_before_min_epochs_is_the_best() -> None:
    script = [(4, 0.9), (2, 0.1), (3, 0.1), (2, 0.1)]
    assert scripted(script, min_epochs=1)[0].best_epoch == 3
    assert scripted(script, min_epochs=3)[0].best_epoch == 4
    result, restored = scripted(script, min_epochs=9)
    assert (result.best_epoch, restored) == (4, 4), "nothing but early epochs: the last one"


def test_validation_loss_is_the_plain_cross_entropy() -> None:
    result, _ = scripted([(3, 1.0)])
    p = 1 / (1 + np.exp(-2.0))
    assert result.validation_loss == pytest.approx(-(3 * np.log(p) + np.log(1 - p)) / 4, rel=1e-6)


@pytest.mark.parametrize("criterion", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("class_weights", [False, True])
def test_accumulated_batches_equal_one_large_batch(criterion: CriterionName, class_weights: bool) -> None:
    objective, steps = Objective(criterion=criterion), list[dict[str, Tensor]]()
    config = replace(CONFIG, optimizer="sgd", class_weights=class_weights, epochs=2)
    for size, accumulate in ((16, 1), (4, 4)):
        model = model_of(dropout=0.0)
        settings = replace(config, batch_size=size, accumulate=accumulate)
        fit(model, TRAIN, VALIDATION, settings, seed=0, loss=FusionLoss(), objective=objective)
        steps.append(model.state_dict())
    torch.testing.assert_close(steps[0], steps[1])


def test_evaluation_in_small_batches_gives_the_same() -> None:
    whole, _ = trained()
    pieces, _ = trained(config=replace(CONFIG, evaluation_batch_size=7))
    assert [e.validation_loss for e in pieces.history] == pytest.approx([e.validation_loss for e in whole.history])


def test_clipping_bounds_the_step() -> None:
    config = replace(CONFIG, optimizer="sgd", momentum=0.0, weight_decay=0.0, grad_clip=1e-3, epochs=1, batch_size=50)
    model, start = model_of(), model_of()
    fit(model, TRAIN, VALIDATION, config, seed=0, loss=FusionLoss(), objective=Objective())
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), start.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3 * config.learning_rate, rel=0.05)


def test_a_loss_that_is_not_a_number_ends_with_a_sentence() -> None:
    bad = examples(50, 0)
    bad.inputs.tokens[FACE][3] = float("nan")  # present, and broken
    with pytest.raises(TrainingError, match=r"nan in epoch 1.*learning_rate"):
        fit(model_of(), bad, VALIDATION, CONFIG, seed=0, loss=FusionLoss(), objective=Objective())
    with pytest.raises(TrainingError, match="validation"):
        fit(model_of(), TRAIN, bad, CONFIG, seed=0, loss=FusionLoss(), objective=Objective())


def test_bf16_trains_and_keeps_fp32_weights() -> None:
    result, weights = trained(config=replace(CONFIG, precision="bf16"))
    assert (len(result.history), {tensor.dtype for tensor in weights.values()}) == (6, {torch.float32})


@pytest.mark.parametrize(("precision", "product"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_products_of_training_and_validation(
    precision: Literal["fp32", "bf16"], product: torch.dtype
) -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, values: Tensor) -> Output:
            answer = self.linear(values)
            seen.append((self.training, answer.dtype))
            return Output(logits=answer)

    model, config = Watched(), replace(CONFIG, precision=precision, epochs=1, batch_size=50)
    fit(model, Vectors(), Vectors(), config, seed=0, loss=loss_of_logits, objective=Objective())
    assert seen == [(True, product), (False, product)]


class Vectors:
    """Two clips of four values."""

    in_memory = True
    labels = torch.tensor([0, 1])
    left_out = NOBODY

    def __len__(self) -> int:
        return 2

    def batch(self, indices: Tensor) -> Tensor:
        return torch.eye(2, 4)[indices]


class ThreeRates(nn.Module):
    """The objective below falls by 1 for each of its parameters, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.full((), 5.0), requires_grad=False)

    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [{"params": [self.backbone], "lr": lr / 10}, {"params": [self.head], "lr": lr}]

    def forward(self, values: Tensor) -> Output:
        slope = self.backbone + self.head + self.frozen
        return Output(logits=torch.stack([slope, -slope]).expand(len(values), 2))


def test_every_group_steps_at_its_own_rate_under_the_schedule() -> None:
    def slope(output: Output, labels: Tensor, **_: object) -> Tensor:
        return -output.logits[:, 0].mean()

    model, config = ThreeRates(), FitConfig(
        epochs=4, batch_size=2, optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.1, grad_clip=None,
        min_epochs=4,
    )  # fmt: skip
    fit(model, Vectors(), Vectors(), config, seed=0, loss=slope, objective=Objective())
    # Epochs 1 to 4 of half a cosine: cos(pi e / 4) for e = 0 to 3.
    scales = sum((1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4))
    assert model.head.item() == pytest.approx(0.1 * scales, rel=1e-5)
    assert model.backbone.item() == pytest.approx(0.01 * scales, rel=1e-5)
    assert model.frozen.item() == 5.0


def test_defaults_are_the_papers() -> None:
    config = FitConfig()
    assert (config.optimizer, config.learning_rate, config.weight_decay) == ("rmsprop", 9.44e-5, 5.55e-4)
    assert (config.label_smoothing, config.grad_clip, config.scheduler) == (0.02, 0.5, "cosine")
    assert (config.momentum, config.batch_size, config.epochs, config.patience) == (0.9, 32, 100, 10)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("evaluation_batch_size", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("momentum", 1.0),
        ("label_smoothing", 1.0),
        ("grad_clip", 0.0),
        ("min_epochs", -1),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=setting):
        replace(FitConfig(), **{setting: value})
