"""How far a training has come, and the rules by which it goes on: of `fit`, and of every model of `fit_together`."""

import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.errors import TrainingError
from twominds.training.fit_config import FitConfig
from twominds.training.fit_state import FitState
from twominds.training.metrics import macro_f1
from twominds.training.optim import Schedule


def _detached() -> FitState:
    raise RuntimeError("The state of training can only be taken inside on_epoch.")


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch came to."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean of the training objective over the epoch."""
    validation_loss: float
    """Cross entropy of the logits on validation, without smoothing, class weights or auxiliary terms."""
    validation_mf1: float
    selection_loss: float
    """Mean of the splits that select: validation's own, unless `scored_on` says otherwise."""
    selection_mf1: float
    """Likewise; the best epoch has the highest."""
    learning_rate: float
    """Of the first parameter group, in this epoch."""
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
    validation_mf1: float
    """At the best epoch."""
    validation_loss: float
    """At the best epoch."""
    history: tuple[EpochReport, ...]

    @property
    def best(self) -> EpochReport:
        """What the best epoch came to."""
        return self.history[self.best_epoch - 1]


class Progress:
    """One seed's training so far: its reports, its schedule and its best epoch."""

    def __init__(self, config: FitConfig, seed: int, num_classes: int) -> None:
        self.config, self.seed, self.num_classes = config, seed, num_classes
        self.schedule = Schedule(name=config.scheduler, epochs=config.epochs)
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

    def score(self, logits: Tensor, labels: Tensor) -> tuple[float, float]:
        """Loss and macro F1 of a split's answers [N, C]; TrainingError where they are not numbers."""
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError(f"The model's answers on validation are not numbers (seed {self.seed}).")
        mf1 = macro_f1(labels.cpu().numpy(), logits.argmax(dim=1).cpu().numpy(), self.num_classes)
        return float(F.cross_entropy(logits, labels)), mf1

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
            validation_mf1=validation[1],
            selection_loss=statistics.fmean(loss for loss, _ in scores),
            selection_mf1=statistics.fmean(mf1 for _, mf1 in scores),
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
            validation_mf1=best.validation_mf1,
            validation_loss=best.validation_loss,
            history=tuple(self.history),
        )


def _rank(report: EpochReport) -> tuple[float, float]:
    """Order of epochs: macro F1, then lower loss."""
    return report.selection_mf1, -report.selection_loss


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

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(dropout)
        yield order_of
