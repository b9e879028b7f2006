"""Models that are trained together: what fails fails alone, all is reported, and what can't be done is refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from twominds.errors import ConfigError, TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.model import FusionOutput
from twominds.fusion.simple import ConcatMLPConfig
from twominds.records import Modality
from twominds.training.examples import FusionExamples
from twominds.training.fit import EpochReport, FitResult, fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss, LossFunction, loss_of_logits
from twominds.training.objective import Objective

FACE, SEEDS, LOSS = Modality.FACE, (3, 7, 11), FusionLoss()
CONFIG = FitConfig(epochs=3, batch_size=8, learning_rate=1e-3, patience=9)


def examples(clips: int, seed: int) -> FusionExamples:
    """Class 1 of two = the first value of the face is above zero."""
    values = torch.randn(clips, 4, generator=torch.Generator().manual_seed(seed))
    inputs = FusionInputs(tokens={FACE: values}, mask=torch.ones(clips, 1, dtype=torch.bool))
    return FusionExamples(inputs, (values[:, 0] > 0).long())


TRAIN, VALIDATION = examples(50, 0), examples(30, 1)


def models() -> list[nn.Module]:
    config = ConcatMLPConfig(hidden_dim=8, dropout=0.0)
    return [build_fusion(config, dims={FACE: 4}, num_outputs=2, seed=seed) for seed in SEEDS]


def outcomes(
    several: list[nn.Module],
    *,
    configs: Sequence[FitConfig] = (CONFIG,) * 3,
    losses: Sequence[LossFunction] = (LOSS,) * 3,
    on_epoch: Callable[[int, EpochReport], list[int] | None] | None = None,
) -> list[FitResult | TrainingError | None]:
    return fit_together(
        several, TRAIN, VALIDATION, configs, seeds=SEEDS, losses=losses, objective=Objective(), on_epoch=on_epoch
    )


def alone(model: nn.Module, seed: int) -> FitResult:
    return fit(model, TRAIN, VALIDATION, CONFIG, seed=seed, loss=LOSS, objective=Objective())


def check_same(result: FitResult | TrainingError | None, expected: FitResult) -> None:
    assert isinstance(result, FitResult)
    assert result.best_epoch == expected.best_epoch
    losses = [(report.train_loss, report.validation_loss) for report in result.history]
    assert losses == [pytest.approx((r.train_loss, r.validation_loss), abs=1e-4) for r in expected.history]


def test_a_seed_that_diverges_fails_alone() -> None:
    several = models()
    with torch.no_grad():
        several[1].get_parameter("classifier.weight").fill_(float("inf"))
    kept, error, kept_too = outcomes(several)
    with pytest.raises(TrainingError) as expected:
        alone(several[1], 7)
    assert isinstance(error, TrainingError)
    assert str(error) == str(expected.value)
    check_same(kept, alone(models()[0], 3))
    check_same(kept_too, alone(models()[2], 11))


class Root(nn.Module):
    """Its gradient is infinite at 0, where its answer still is a number."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        logits = self.weight.sqrt() * inputs.tokens[FACE][:, :2]
        return FusionOutput(logits=logits, fused=logits)


def test_answers_that_are_not_numbers_fail_alone_too() -> None:
    error, *kept = outcomes([Root(0.0), Root(1.0), Root(2.0)])
    with pytest.raises(TrainingError, match="seed 3") as expected:
        alone(Root(0.0), 3)
    assert isinstance(error, TrainingError)
    assert str(error) == str(expected.value)
    for result, weight, seed in zip(kept, (1.0, 2.0), SEEDS[1:], strict=True):
        check_same(result, alone(Root(weight), seed))


def test_all_seeds_may_fail() -> None:
    assert [type(outcome) for outcome in outcomes([Root(0.0) for _ in SEEDS])] == [TrainingError] * 3


def test_every_epoch_of_every_seed_is_reported_with_its_place() -> None:
    seen: list[tuple[int, EpochReport]] = []

    def note(place: int, report: EpochReport) -> None:
        seen.append((place, report))

    results = outcomes(models(), on_epoch=note)
    for place, result in enumerate(results):
        assert isinstance(result, FitResult)
        assert [report for at, report in seen if at == place] == list(result.history)
    assert [place for place, _ in seen] == [0, 1, 2] * 3
    with pytest.raises(TrainingError, match="no state"):
        seen[0][1].fit_state()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TrainingError])
def test_an_exception_of_the_callers_ends_everything(kind: type[BaseException]) -> None:
    def stop(place: int, report: EpochReport) -> None:
        if (place, report.epoch) == (1, 2):
            raise kind("enough")

    several = models()
    with pytest.raises(kind, match="enough"):
        outcomes(several, on_epoch=stop)
    for model, start in zip(several, models(), strict=True):
        assert all(torch.equal(tensor, start.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_what_is_broken_off_ends_alone() -> None:
    told: list[tuple[int, int]] = []

    def end_the_outer_two(place: int, report: EpochReport) -> list[int]:
        told.append((place, report.epoch))
        return [0, 2] if (place, report.epoch) == (0, 2) else []

    several = models()
    first, kept, third = outcomes(several, on_epoch=end_the_outer_two)
    assert (first, third) == (None, None)
    check_same(kept, alone(models()[1], 7))
    assert told == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (1, 3)], "nothing more is heard of them"
    for place in (0, 2):
        start = models()[place].state_dict()
        assert all(torch.equal(tensor, start[name]) for name, tensor in several[place].state_dict().items())


class Grouped(nn.Linear):
    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [{"params": [self.weight], "lr": lr}]


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="parameter groups"):
        outcomes([Grouped(1, 1), *models()[1:]])
    with pytest.raises(ValueError, match="2 models, 3 seeds"):
        outcomes(models()[1:])
    with pytest.raises(ConfigError, match="may only differ in"):
        outcomes(models(), configs=[CONFIG, replace(CONFIG, optimizer="sgd"), CONFIG])
    with pytest.raises(ConfigError, match="other losses"):
        outcomes(models(), losses=[loss_of_logits, LOSS, LOSS])
    assert fit_together([], TRAIN, VALIDATION, [], seeds=(), losses=[], objective=Objective()) == []
