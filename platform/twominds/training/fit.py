"""The training loop of everything the platform trains: unimodal encoders and fusion models alike.

Validation alone selects the epoch: no other split is in the signature. All randomness of an epoch is drawn from
(seed, epoch), so that the same seed gives the same bits on the CPU, and a run that was interrupted goes on from a
`FitState` as if nothing had happened.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.errors import ConfigError, TrainingError
from twominds.training.examples import Examples
from twominds.training.fit_state import FitState, optimizer_tensors, restore_optimizer
from twominds.training.losses import LossFunction, balanced_class_weights
from twominds.training.metrics import macro_f1
from twominds.training.optim import OptimizerName, Schedule, SchedulerName, make_optimizer, trainable_groups


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained. The defaults are those of LEYA's selected fusion model (section 4.2)."""

    epochs: int = 100
    """Most epochs."""
    batch_size: int = 32
    """Clips per forward pass in training."""
    accumulate: int = 1
    """Forward passes per optimizer step; the step is that of one batch of batch_size * accumulate clips."""
    evaluation_batch_size: int | None = None
    """Clips per forward pass in validation; None: all at once where they are in memory, else batch_size."""
    optimizer: OptimizerName = "rmsprop"
    """Optimizer."""
    learning_rate: float = 9.44e-5
    """Base learning rate; a model's parameter groups may scale it."""
    weight_decay: float = 5.55e-4
    """Weight decay: decoupled in adamw, an L2 term in the gradient in rmsprop and sgd."""
    momentum: float = 0.9
    """Momentum of rmsprop and sgd."""
    scheduler: SchedulerName = "cosine"
    """Learning rate after each epoch: half a cosine over `epochs`, halved on a validation-loss plateau, or constant."""
    label_smoothing: float = 0.02
    """Label smoothing of the cross entropies."""
    class_weights: bool = True
    """Weigh classes inversely to their frequency in the training split."""
    grad_clip: float | None = 0.5
    """Largest gradient norm; None: no clipping."""
    patience: int = 10
    """Epochs without a better validation MF1 after which training stops."""
    min_epochs: int = 0
    """Epochs that are trained before any can be the best and patience begins to count. Until it has learned something a
    model answers all clips nearly alike, and what that comes to in macro F1 is chance."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: forward passes under autocast; parameters stay fp32."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        whole = {"epochs": 1, "batch_size": 1, "accumulate": 1, "patience": 1, "min_epochs": 0}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.evaluation_batch_size is not None and self.evaluation_batch_size < 1:
            raise ConfigError(f"evaluation_batch_size must be at least 1, got {self.evaluation_batch_size}.")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must be 0 or more, got {self.weight_decay}.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}.")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise ConfigError(f"grad_clip must be above 0 (or none), got {self.grad_clip}.")


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
    learning_rate: float
    """Of the first parameter group, in this epoch."""
    seconds: float
    fit_state: Callable[[], FitState] = field(default=_detached, repr=False, compare=False)
    """Takes a resumable state; only inside `on_epoch`."""

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


def fit(
    model: nn.Module,
    train: Examples,
    validation: Examples,
    config: FitConfig,
    *,
    seed: int,
    loss: LossFunction,
    num_classes: int,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    resume: FitState | None = None,
) -> FitResult:
    """Train `model` in place; it ends with the weights of the epoch with the best validation macro F1.

    Epochs up to `min_epochs` are no candidates (without later ones the last is taken). Of equal macro F1 the epoch with
    the lower validation loss is better. The model is taken as it is: whoever builds it seeds its initialisation
    (`fusion.catalog.build_fusion(seed=...)`). The global random state is left untouched, but must not be drawn from by
    another thread meanwhile.

    Args:
        model: returns an output with `logits` [B, C] for what `train.batch` gives.
        train: what is learned from.
        validation: what selects the epoch.
        config: the settings.
        seed: of shuffling and dropout.
        loss: the objective.
        num_classes: C.
        device: where model and batches live.
        on_epoch: called after each epoch; may take a `fit_state()` to resume from. An exception in it ends training.
        resume: state of an interrupted run of the same model, data, config and seed.

    Raises:
        TrainingError: a split is empty, or the loss is not a number.
    """
    if len(train) == 0 or len(validation) == 0:
        raise TrainingError("Training needs at least one clip in the training and in the validation split.")
    run = _Run(model.to(device), config, seed, loss, num_classes, torch.device(device))
    run.class_weights = balanced_class_weights(train.labels, num_classes) if config.class_weights else None
    if resume is not None:
        run.restore(resume)
    while run.unfinished():
        report = run.epoch(train, validation)
        if on_epoch is not None:
            on_epoch(replace(report, fit_state=run.state))
    model.load_state_dict(run.best_weights)
    best = run.history[run.best_epoch - 1]
    return FitResult(
        best_epoch=best.epoch,
        validation_mf1=best.validation_mf1,
        validation_loss=best.validation_loss,
        history=tuple(run.history),
    )


class _Run:
    """One training in progress: everything that changes from epoch to epoch."""

    def __init__(
        self, model: nn.Module, config: FitConfig, seed: int, loss: LossFunction, num_classes: int, device: torch.device
    ) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.loss, self.num_classes, self.device = loss, num_classes, device
        self.class_weights: Tensor | None = None
        self.optimizer = make_optimizer(
            config.optimizer,
            trainable_groups(model, config.learning_rate),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.schedule = Schedule(name=config.scheduler, epochs=config.epochs)
        self.history: list[EpochReport] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}

    def unfinished(self) -> bool:
        """Whether another epoch is due."""
        done = len(self.history)
        waited = done - max(self.best_epoch, self.config.min_epochs)
        return done < self.config.epochs and waited < self.config.patience

    def epoch(self, train: Examples, validation: Examples) -> EpochReport:
        """Train and validate one epoch, and keep the weights if it is the best so far."""
        started = time.perf_counter()
        epoch = len(self.history) + 1
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.schedule.scale
        learning_rate = self.base_rates[0] * self.schedule.scale
        with _seeded(self.seed, epoch, self.device) as order_of:
            train_loss = self._descend(train, order_of(len(train)))
        if not np.isfinite(train_loss):
            raise TrainingError(
                f"The training loss is {train_loss} in epoch {epoch} (seed {self.seed}). Lower learning_rate "
                f"({self.config.learning_rate:g}), set grad_clip, or look for inputs that are not numbers."
            )
        validation_loss, validation_mf1 = self._validate(validation)
        self.schedule.step(epoch, validation_loss)
        report = EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_mf1=validation_mf1,
            learning_rate=learning_rate,
            seconds=time.perf_counter() - started,
        )
        self.history.append(report)
        too_early = self.best_epoch <= self.config.min_epochs  # true of the best so far, which is then no rival
        if too_early or _rank(report) > _rank(self.history[self.best_epoch - 1]):
            self.best_epoch = epoch
            self.best_weights = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        return report

    def _descend(self, train: Examples, order: Tensor) -> float:
        self.model.train()
        total = torch.zeros((), device=self.device)
        for window in _split(order, self.config.batch_size * self.config.accumulate):
            self.optimizer.zero_grad(set_to_none=True)
            for indices in _split(window, self.config.batch_size):
                with self._autocast():
                    output = self.model(train.batch(indices))
                    loss = self.loss(
                        output,
                        train.labels[indices.to(self.device)],
                        class_weights=self.class_weights,
                        label_smoothing=self.config.label_smoothing,
                    )
                (loss * (len(indices) / len(window))).backward()
                total += loss.detach() * len(indices)
            if self.config.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip)
            self.optimizer.step()
        return float(total) / len(order)

    @torch.no_grad()
    def _validate(self, validation: Examples) -> tuple[float, float]:
        """Loss and macro F1."""
        logits = self._logits(validation)
        labels = validation.labels
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError(f"The model's answers on validation are not numbers (seed {self.seed}).")
        mf1 = macro_f1(labels.cpu().numpy(), logits.argmax(dim=1).cpu().numpy(), self.num_classes)
        return float(F.cross_entropy(logits, labels)), mf1

    def _logits(self, examples: Examples) -> Tensor:
        self.model.eval()
        all_at_once = len(examples) if examples.in_memory else self.config.batch_size
        size = self.config.evaluation_batch_size or all_at_once
        with self._autocast():
            chunks = _split(torch.arange(len(examples)), size)
            batches = [self.model(examples.batch(chunk)).logits for chunk in chunks]
        return torch.cat(batches).float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16")

    def state(self) -> FitState:
        """Everything that `restore` needs, as tensors and numbers of its own."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best_weights.items()}
        tensors |= optimizer_tensors(self.optimizer)
        return FitState(
            tensors={name: t.detach().cpu().clone() for name, t in tensors.items()},
            numbers={
                "seed": self.seed,
                "best_epoch": self.best_epoch,
                "history": [report.numbers() for report in self.history],
                "schedule": {**asdict(self.schedule)},
            },
        )

    def restore(self, state: FitState) -> None:
        """Continue where `state` was taken."""
        if state.numbers["seed"] != self.seed:
            raise TrainingError(f"The state to resume from is of seed {state.numbers['seed']}, not of {self.seed}.")
        self.model.load_state_dict(state.part("model."))
        self.best_weights = {name: t.to(self.device) for name, t in state.part("best.").items()}
        restore_optimizer(self.optimizer, state)
        self.best_epoch = state.numbers["best_epoch"]
        self.history = [EpochReport(**numbers) for numbers in state.numbers["history"]]
        self.schedule = Schedule(**state.numbers["schedule"])


def _split(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    """Consecutive pieces of `size`; the last may be shorter."""
    return cast(tuple[Tensor, ...], indices.split(size))


def _rank(report: EpochReport) -> tuple[float, float]:
    """Order of epochs: macro F1, then lower loss."""
    return report.validation_mf1, -report.validation_loss


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Generator[Callable[[int], Tensor]]:
    """Draw an epoch's dropout and shuffling from (seed, epoch), and leave the global random state as it was."""
    dropout, shuffling = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64).tolist()
    generator = torch.Generator().manual_seed(shuffling)

    def order_of(length: int) -> Tensor:
        return torch.randperm(length, generator=generator)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(dropout)
        yield order_of
