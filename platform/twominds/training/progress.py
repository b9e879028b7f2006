"""How far a training has come, and the rules by which it goes on: of `fit`, and of every model of `fit_together`."""

import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.errors import TrainingError
from twominds.training.examples import Examples
from twominds.training.fit_config import FitConfig
from twominds.training.fit_state import FitState
from twominds.training.objective import Objective
from twominds.training.optim import Schedule


def _detached() -> FitState:
    raise RuntimeError("The state of training can only be taken inside on_epoch.")


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """Number of the epoch, from 1."""
    train_loss: float
    """Mean of the training objective over the epoch."""
    validation_loss: float
    """The task's loss of the logits on validation's answers, without smoothing, class weights or auxiliary terms."""
    validation_score: float
    """The task's metric over all labelled validation points; those without an answer get the constant one
    (`split_scores`)."""
    selection_loss: float
    """Mean of the splits that select: validation's own, unless `scored_on` says otherwise."""
    selection_score: float
    """Mean score of the splits that select; the best epoch has the highest."""
    learning_rate: float
    """That of the first parameter group, in this epoch."""
    seconds: float
    fit_state: Callable[[], FitState] = field(default=_detached, repr=False, compare=False)
    """Takes a resumable state; only inside `on_epoch`, and not under DeepSpeed."""

    def numbers(self) -> dict[str, float]:
        """The report as plain numbers, for logs and checkpoints."""
        return {
            name: value for name, value in asdict(replace(self, fit_state=_detached)).items() if name != "fit_state"
        }


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A finished training; the model holds the weights of `best_epoch`."""

    best_epoch: int
    validation_score: float
    """At the best epoch."""
    validation_loss: float
    """At the best epoch."""
    selection_score: float
    """At the best epoch: mean of the splits that select."""
    selection_loss: float
    """At the best epoch: mean of the splits that select."""
    history: tuple[EpochReport, ...]


class Progress:
    """One seed's training so far: its reports, its schedule and its best epoch."""

    def __init__(self, config: FitConfig, seed: int, train: Examples, objective: Objective) -> None:
        self.config, self.seed, self.objective = config, seed, objective
        self.constant = training_constant(train, objective)
        self.schedule = Schedule(name=config.scheduler, epochs=config.epochs, floor=config.learning_rate_floor)
        self.history: list[EpochReport] = []
        self.best_epoch = 0

    def unfinished(self) -> bool:
        """Whether another epoch is due."""
        done = len(self.history)
        waited = done - max(self.best_epoch, self.config.min_epochs)
        return done < self.config.epochs and waited < self.config.patience

    def check(self, train_loss: float) -> None:
        """Raise TrainingError where the epoch's loss is not a number."""
        if not np.isfinite(train_loss):
            raise TrainingError(
                f"The training loss is {train_loss} in epoch {len(self.history) + 1} (seed {self.seed}). "
                f"Lower learning_rate ({self.config.learning_rate:g}), set grad_clip, or look for inputs that are not "
                "numbers."
            )

    def score(self, logits: Tensor, labels: Tensor, left_out: Tensor) -> tuple[float, float]:
        """`split_scores`; TrainingError where the answers are not numbers."""
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError(f"The model's answers on validation are not numbers (seed {self.seed}).")
        return split_scores(logits, labels, left_out, self.constant, self.objective)

    def record(
        self,
        train_loss: float,
        validation: tuple[float, float],
        scores: Sequence[tuple[float, float]],
        *,
        learning_rate: float,
        seconds: float,
    ) -> bool:
        """Add an epoch by its scores on validation and on the splits that select. Whether it is the best so far."""
        report = EpochReport(
            epoch=len(self.history) + 1,
            train_loss=train_loss,
            validation_loss=validation[0],
            validation_score=validation[1],
            selection_loss=statistics.fmean(loss for loss, _ in scores),
            selection_score=statistics.fmean(score for _, score in scores),
            learning_rate=learning_rate,
            seconds=seconds,
        )
        self.schedule.step(report.epoch, report.validation_loss)
        self.history.append(report)
        too_early = self.best_epoch <= self.config.min_epochs  # true of the best so far, which is then no rival
        if too_early or _rank(report) > _rank(self.history[self.best_epoch - 1]):
            self.best_epoch = report.epoch
        return self.best_epoch == report.epoch

    def result(self) -> FitResult:
        """What the finished training came to."""
        best = self.history[self.best_epoch - 1]
        return FitResult(
            best_epoch=best.epoch,
            validation_score=best.validation_score,
            validation_loss=best.validation_loss,
            selection_score=best.selection_score,
            selection_loss=best.selection_loss,
            history=tuple(self.history),
        )


def training_constant(train: Examples, objective: Objective) -> npt.NDArray[Any]:
    """The constant answer by all labelled training points, whether or not they can be learned from."""
    return objective.constant(torch.cat([train.labels.cpu(), train.left_out]))


def split_scores(
    logits: Tensor, labels: Tensor, left_out: Tensor, constant: npt.NDArray[Any], objective: Objective
) -> tuple[float, float]:
    """How good a model is on a split: the loss of its answers, and the task's metric over all labelled points.

    So a figure means the same in a card, in a search and in a table of results.

    Args:
        logits: The answers [N, K].
        labels: int64 [N] classes or float [N, K] intensities, on the same device.
        left_out: On the CPU: labels of the L points that can't be answered.
        constant: The answer by the training labels, which those get.
        objective: The task's.
    """
    loss = objective.loss(logits, labels, class_weights=None, label_smoothing=0.0)
    return float(loss), objective.score(labels, left_out, logits, constant)


def _rank(report: EpochReport) -> tuple[float, float]:
    """Order of epochs: the score, then lower loss."""
    return report.selection_score, -report.selection_loss


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device, rank: int = 0) -> Generator[Callable[[int], Tensor]]:
    """Draw an epoch's dropout and shuffling from (seed, epoch), and leave the global random state as it was.

    Workers shuffle alike, and drop out each for itself: their clips are different ones.
    """
    dropout, shuffling = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64).tolist()
    if rank:
        (dropout,) = np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64).tolist()
    generator = torch.Generator().manual_seed(shuffling)

    def order_of(length: int) -> Tensor:
        return torch.randperm(length, generator=generator)

    before = np.random.get_state()  # Hugging Face's SpecAugment draws what sound it masks from there
    np.random.seed(dropout % 2**32)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(dropout)
            yield order_of
    finally:
        np.random.set_state(before)
