"""The training loop of everything the platform trains: unimodal encoders and fusion models alike.

Validation alone selects the epoch, unless the caller's selection protocol hands in other splits by name. All
randomness of an epoch is drawn from (seed, epoch), so that the same seed gives the same bits on the CPU, and a run that
was interrupted goes on from a `FitState` as if nothing had happened. Several workers take the steps of one.
"""

import copy
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.errors import TrainingError
from twominds.training.deepspeed import DeepSpeedConfig, DeepSpeedSteps
from twominds.training.examples import Examples
from twominds.training.fit_config import FitConfig
from twominds.training.fit_state import FitState, optimizer_tensors, restore_optimizer
from twominds.training.losses import LossFunction, balanced_class_weights
from twominds.training.metrics import macro_f1
from twominds.training.optim import Schedule, make_optimizer, trainable_groups
from twominds.training.steps import PlainSteps, Steps
from twominds.training.workers import ALONE, Workers, share_of


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
    scored_on: Sequence[Examples] = (),
    workers: Workers = ALONE,
    deepspeed: DeepSpeedConfig | None = None,
) -> FitResult:
    """Train `model` in place; it ends with the weights of the epoch with the best macro F1.

    Epochs up to `min_epochs` are no candidates (without later ones the last is taken). Of equal macro F1 the epoch with
    the lower loss is better. The model is taken as it is: whoever builds it seeds its initialisation
    (`fusion.catalog.build_fusion(seed=...)`). The global random state is left untouched, but must not be drawn from by
    another thread meanwhile.

    Args:
        model: returns an output with `logits` [B, C] for what `train.batch` gives.
        train: what is learned from.
        validation: what selects the epoch, and when a plateau lowers the learning rate.
        config: the settings.
        seed: of shuffling and dropout.
        loss: the objective.
        num_classes: C.
        device: where model and batches live.
        on_epoch: called after each epoch; may take a `fit_state()` to resume from. An exception in it ends training.
        resume: state of an interrupted run of the same model, data, config and seed.
        scored_on: the splits whose mean macro F1 and loss select the epoch; none given: validation.
        workers: the processes that train together. Each calls this with the same arguments, and gets the same model.
        deepspeed: split the training over the workers with ZeRO. It can't be resumed.

    Raises:
        TrainingError: a split is empty, or the loss is not a number.
        ConfigError: DeepSpeed is asked for, but not installed.
    """
    if len(train) == 0 or len(validation) == 0:
        raise TrainingError("Training needs at least one clip in the training and in the validation split.")
    workers.align(model.to(device))
    run = _Run(model, config, seed, loss, num_classes, torch.device(device), workers, deepspeed)
    run.scored_on = scored_on or (validation,)
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
        self,
        model: nn.Module,
        config: FitConfig,
        seed: int,
        loss: LossFunction,
        num_classes: int,
        device: torch.device,
        workers: Workers,
        deepspeed: DeepSpeedConfig | None,
    ) -> None:
        if deepspeed is not None:  # the engine takes a model apart; the caller's stays whole
            model = copy.deepcopy(model)
        self.config, self.seed, self.workers = config, seed, workers
        self.loss, self.num_classes, self.device = loss, num_classes, device
        self.scored_on: Sequence[Examples] = ()
        self.class_weights: Tensor | None = None
        self.optimizer = make_optimizer(
            config.optimizer,
            trainable_groups(model, config.learning_rate),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
        self.base_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.steps: Steps
        if deepspeed is None:
            self.steps = PlainSteps(model, self.optimizer, config.grad_clip, workers)
        else:
            self.steps = DeepSpeedSteps(model, self.optimizer, deepspeed, config, workers)
        self.resumable = deepspeed is None
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
        with _seeded(self.seed, epoch, self.device, self.workers.rank) as order_of:
            train_loss = self._descend(train, order_of(len(train)))
        if not np.isfinite(train_loss):
            raise TrainingError(
                f"The training loss is {train_loss} in epoch {epoch} (seed {self.seed}). Lower learning_rate "
                f"({self.config.learning_rate:g}), set grad_clip, or look for inputs that are not numbers."
            )
        validation_loss, validation_mf1 = at_validation = self._evaluate(validation)
        scores = [at_validation if split is validation else self._evaluate(split) for split in self.scored_on]
        self.schedule.step(epoch, validation_loss)
        report = EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_mf1=validation_mf1,
            selection_loss=statistics.fmean(loss for loss, _ in scores),
            selection_mf1=statistics.fmean(mf1 for _, mf1 in scores),
            learning_rate=learning_rate,
            seconds=time.perf_counter() - started,
        )
        self.history.append(report)
        too_early = self.best_epoch <= self.config.min_epochs  # true of the best so far, which is then no rival
        if too_early or _rank(report) > _rank(self.history[self.best_epoch - 1]):
            self.best_epoch = epoch
            self.best_weights = self.steps.weights()
        return report

    def _descend(self, train: Examples, order: Tensor) -> float:
        self.steps.model.train()
        labels, total = train.labels, torch.zeros((), device=self.device)
        for window in _split(order, self.config.batch_size * self.config.accumulate):
            for indices in _split(window, self.config.batch_size):
                own = self.workers.own(indices)
                share = share_of(labels[own.to(self.device)], labels[window.to(self.device)], self.class_weights)
                if len(own) == 0:  # of a short batch: others may wait for this forward pass, which counts for nothing
                    own = indices[:1]
                with self._autocast():
                    output = self.steps.model(train.batch(own))
                    loss = share * self.loss(
                        output,
                        labels[own.to(self.device)],
                        class_weights=self.class_weights,
                        label_smoothing=self.config.label_smoothing,
                    )
                self.steps.backward(loss)
                total += loss.detach() * len(window)
            self.steps.step()
        return float(self.workers.add_up(total)) / len(order)

    @torch.no_grad()
    def _evaluate(self, examples: Examples) -> tuple[float, float]:
        """Loss and macro F1."""
        logits = self._logits(examples)
        labels = examples.labels
        if not bool(torch.isfinite(logits).all()):
            raise TrainingError(f"The model's answers on validation are not numbers (seed {self.seed}).")
        mf1 = macro_f1(labels.cpu().numpy(), logits.argmax(dim=1).cpu().numpy(), self.num_classes)
        return float(F.cross_entropy(logits, labels)), mf1

    def _logits(self, examples: Examples) -> Tensor:
        """[N, C], the same bits for all workers: they decide alike. Each answers as many clips, some of them again."""
        self.steps.model.eval()
        each = -(-len(examples) // self.workers.count)
        places = self.workers.own(torch.arange(each * self.workers.count))
        size = self.config.evaluation_batch_size or (each if examples.in_memory else self.config.batch_size)
        with self._autocast():
            batches = [self.steps.model(examples.batch(at % len(examples))).logits for at in _split(places, size)]
        answers = torch.cat(batches).float()
        if self.workers.count == 1:
            return answers
        logits = answers.new_zeros(each * self.workers.count, answers.shape[1])
        logits[places.to(self.device)] = answers
        return self.workers.add_up(logits)[: len(examples)]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16")

    def state(self) -> FitState:
        """Everything that `restore` needs, as tensors and numbers of its own."""
        if not self.resumable:
            raise TrainingError("Training with DeepSpeed has no state to resume from: it is in pieces.")
        tensors = {f"model.{name}": t for name, t in self.steps.weights().items()}
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
        self.steps.model.load_state_dict(state.part("model."))
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
    return report.selection_mf1, -report.selection_loss


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device, rank: int) -> Generator[Callable[[int], Tensor]]:
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
