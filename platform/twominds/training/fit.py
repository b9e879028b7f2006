"""The training loop of everything the platform trains: unimodal encoders and fusion models alike.

Validation alone selects the epoch, unless the caller's selection protocol hands in other splits by name. All
randomness of an epoch is drawn from (seed, epoch), so that the same seed gives the same bits on the CPU, and a run that
was interrupted goes on from a `FitState` as if nothing had happened. Several workers take the steps of one.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import cast

import torch
from torch import Tensor, nn

from twominds.errors import TrainingError
from twominds.training.deepspeed import DeepSpeedConfig, DeepSpeedSteps
from twominds.training.examples import Examples, PartedExamples
from twominds.training.fit_config import FitConfig
from twominds.training.fit_state import FitState, optimizer_tensors, restore_optimizer
from twominds.training.losses import LossFunction
from twominds.training.objective import Objective
from twominds.training.optim import Schedule, make_optimizer, trainable_groups
from twominds.training.progress import EpochReport, FitResult, Progress, seeded
from twominds.training.steps import PlainSteps, Steps
from twominds.training.workers import ALONE, Workers, share_of

__all__ = ["EpochReport", "FitConfig", "FitResult", "fit"]


def fit(
    model: nn.Module,
    train: Examples,
    validation: Examples,
    config: FitConfig,
    *,
    seed: int,
    loss: LossFunction,
    objective: Objective,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    resume: FitState | None = None,
    scored_on: Sequence[Examples] = (),
    workers: Workers = ALONE,
    deepspeed: DeepSpeedConfig | None = None,
) -> FitResult:
    """Train `model` in place; it ends with the weights of the epoch with the best score by the task's metric.

    Epochs up to `min_epochs` are no candidates (without later ones the last is taken). Of equal scores the epoch with
    the lower loss is better. The score is that of all labelled points: those that can't be answered get the constant
    answer of training (the majority, or the mean). The model is taken as it is: whoever builds it seeds its
    initialisation (`fusion.catalog.build_fusion(seed=...)`). The global random state is left untouched, but must not be
    drawn from by another thread meanwhile.

    Args:
        model: returns an output with `logits` [B, C] for what `train.batch` gives.
        train: what is learned from.
        validation: what selects the epoch, and when a plateau lowers the learning rate.
        config: epochs, optimizer, batches and all other settings of the loop.
        seed: of shuffling and dropout.
        loss: of a model's whole output; a plain model's is `loss_of_logits`.
        objective: the task's, by which epochs are compared.
        device: where model and batches live.
        on_epoch: called after each epoch; may take a `fit_state()` to resume from. An exception in it ends training.
        resume: state of an interrupted run of the same model, data, config and seed.
        scored_on: the splits whose mean score and loss select the epoch; none given: validation.
        workers: the processes that train together. Each calls this with the same arguments, and gets the same model.
        deepspeed: split the training over the workers with ZeRO. It can't be resumed.

    Raises:
        TrainingError: a split is empty, or the loss is not a number.
        ConfigError: DeepSpeed is asked for, but not installed.
    """
    if len(train) == 0 or len(validation) == 0:
        raise TrainingError("Training needs at least one clip in the training and in the validation split.")
    workers.align(model.to(device))
    run = _Run(model, train, config, seed, loss, objective, torch.device(device), workers, deepspeed)
    run.scored_on = scored_on or (validation,)
    run.class_weights = objective.class_weights(train.labels) if config.class_weights else None
    if resume is not None:
        run.restore(resume)
    while run.progress.unfinished():
        report = run.epoch(train, validation)
        if on_epoch is not None:
            on_epoch(replace(report, fit_state=run.state))
    model.load_state_dict(run.best_weights)
    return run.progress.result()


class _Run:
    """One training in progress: everything that changes from epoch to epoch."""

    def __init__(
        self,
        model: nn.Module,
        train: Examples,
        config: FitConfig,
        seed: int,
        loss: LossFunction,
        objective: Objective,
        device: torch.device,
        workers: Workers,
        deepspeed: DeepSpeedConfig | None,
    ) -> None:
        if deepspeed is not None:  # the engine takes a model apart; the caller's stays whole
            model = copy.deepcopy(model)
        self.config, self.seed, self.workers = config, seed, workers
        self.loss, self.objective, self.device = loss, objective, device
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
        self.progress = Progress(config, seed, train, objective)
        self.best_weights: dict[str, Tensor] = {}

    def epoch(self, train: Examples, validation: Examples) -> EpochReport:
        """Train and validate one epoch, and keep the weights if it is the best so far."""
        started = time.perf_counter()
        progress = self.progress
        rates = [progress.schedule.rate(base) for base in self.base_rates]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        with seeded(self.seed, len(progress.history) + 1, self.device, self.workers.rank) as order_of:
            train_loss = self._descend(train, order_of(len(train)))
        progress.check(train_loss)  # before a validation that would be in vain
        at_validation = self._score(validation)
        best = progress.record(
            train_loss,
            at_validation,
            [at_validation if split is validation else self._score(split) for split in self.scored_on],
            learning_rate=rates[0],
            seconds=time.perf_counter() - started,
        )
        if best:
            self.best_weights = self.steps.weights()
        return progress.history[-1]

    def _descend(self, train: Examples, order: Tensor) -> float:
        self.steps.model.train()
        labels, total = train.labels, torch.zeros((), device=self.device)
        weights = self.objective.weights_of_mean(self.class_weights)
        for window in _split(order, self.config.batch_size * self.config.accumulate):
            for indices in _split(window, self.config.batch_size):
                own = self.workers.own(indices)
                share = share_of(labels[own.to(self.device)], labels[window.to(self.device)], weights)
                if len(own) == 0:  # of a short batch: others may wait for this forward pass, which counts for nothing
                    own = indices[:1]
                with self._autocast():
                    parted = isinstance(train, PartedExamples)
                    output = self.steps.model(train.part(own, window, weights) if parted else train.batch(own))
                    loss = share * self.loss(
                        output,
                        labels[own.to(self.device)],
                        class_weights=self.class_weights,
                        label_smoothing=self.config.label_smoothing,
                        criterion=self.objective.loss,
                    )
                self.steps.backward(loss)
                total += loss.detach() * len(window)
            self.steps.step()
        return float(self.workers.add_up(total)) / len(order)

    def _score(self, split: Examples) -> tuple[float, float]:
        """Loss and score."""
        return self.progress.score(self._logits(split), split.labels, split.left_out)

    @torch.no_grad()
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
                "best_epoch": self.progress.best_epoch,
                "history": [report.numbers() for report in self.progress.history],
                "schedule": {**asdict(self.progress.schedule)},
            },
        )

    def restore(self, state: FitState) -> None:
        """Continue where `state` was taken."""
        if state.numbers["seed"] != self.seed:
            raise TrainingError(f"The state to resume from is of seed {state.numbers['seed']}, not of {self.seed}.")
        self.steps.model.load_state_dict(state.part("model."))
        self.best_weights = {name: t.to(self.device) for name, t in state.part("best.").items()}
        restore_optimizer(self.optimizer, state)
        self.progress.best_epoch = state.numbers["best_epoch"]
        self.progress.history = [EpochReport(**numbers) for numbers in state.numbers["history"]]
        self.progress.schedule = Schedule(**state.numbers["schedule"])


def _split(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    """Consecutive pieces of `size`; the last may be shorter."""
    return cast(tuple[Tensor, ...], indices.split(size))
