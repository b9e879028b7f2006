"""Train all seeds of one fusion model at once, as one batched model: on a GPU they take little longer than one does.

For each seed it is the training of `fit`: the same order of clips, clipping, schedule, early stopping and choice of the
epoch. What can't be the same are the dropout masks, which are drawn for all seeds together, and the last bits of sums.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from twominds.errors import ConfigError, TrainingError
from twominds.training.examples import FusionExamples
from twominds.training.fit_config import FitConfig
from twominds.training.losses import LossFunction, balanced_class_weights
from twominds.training.optim import HasParameterGroups
from twominds.training.progress import EpochReport, FitResult, Progress, seeded
from twominds.training.stacked import ModelStack, RowOptimizer, reached, weights_of


def fit_seeds(
    models: Sequence[nn.Module],
    train: FusionExamples,
    validation: FusionExamples,
    config: FitConfig,
    *,
    seeds: Sequence[int],
    loss: LossFunction,
    num_classes: int,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, EpochReport], None] | None = None,
    scored_on: Sequence[FusionExamples] = (),
) -> list[FitResult | TrainingError]:
    """Train `models` in place, each with its seed and by `fit`'s rules; they end with the weights of their best epochs.

    A seed that has stopped is dropped from the batch, so that it costs nothing any more. Dropout is drawn from the
    first seed that still trains: a seed's masks depend on its company, but the same call gives the same bits on the
    CPU. An epoch's seconds are shared out to the seeds that trained in it.

    Args:
        models: one per seed, of one architecture, without parameter groups or control flow that looks at data.
        train: what is learned from.
        validation: what selects the epoch, and when a plateau lowers a seed's learning rate.
        config: the settings, of all seeds.
        seeds: of shuffling and dropout; each model's initialisation is the caller's.
        loss: the objective of one model.
        num_classes: C.
        device: where models and clips live.
        on_epoch: called after each epoch with the place in `seeds` and the report, for every seed that trained in it.
            There is no state to resume from. An exception in it ends all training, and no model is changed.
        scored_on: the splits whose mean macro F1 and loss select the epoch; none given: validation.

    Returns:
        For each seed its result. One whose loss or answers were not numbers has the error instead, and its model is as
        it came; it does not touch the others.

    Raises:
        ConfigError: a model has parameter groups of its own.
    """
    if len(models) != len(seeds):
        raise ValueError(f"{len(models)} models but {len(seeds)} seeds")
    if any(isinstance(model, HasParameterGroups) for model in models):
        raise ConfigError("A model with parameter groups of its own can't be trained in a batch of seeds: use fit.")
    if not models:
        return []
    models = [model.to(device) for model in models]
    trainings = [_Training(config, seed, num_classes) for seed in seeds]
    run = _Together(models, trainings, train, config, loss, num_classes, torch.device(device))
    while run.trainings:
        for training in run.epoch(train, validation, scored_on or (validation,)):
            if on_epoch is not None:
                on_epoch(trainings.index(training), replace(training.progress.history[-1], fit_state=_no_state))
    return [training.finish(model) for training, model in zip(trainings, models, strict=True)]


def _no_state() -> NoReturn:
    raise TrainingError("Seeds that are trained together have no state to resume from.")


class _Training:
    """One seed's training so far: everything but its row."""

    def __init__(self, config: FitConfig, seed: int, num_classes: int) -> None:
        self.seed = seed
        self.progress = Progress(config, seed, num_classes)
        self.best_weights: dict[str, Tensor] = {}
        self.error: TrainingError | None = None

    def finish(self, model: nn.Module) -> FitResult | TrainingError:
        """The result, with the best weights in `model`; or the error."""
        if self.error is not None:
            return self.error
        for name, tensor in weights_of(model.eval()).items():
            tensor.copy_(self.best_weights[name])
        return self.progress.result()


class _Together:
    """The seeds that still train: row i of everything is that of `trainings[i]`."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        trainings: Sequence[_Training],
        train: FusionExamples,
        config: FitConfig,
        loss: LossFunction,
        num_classes: int,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.trainings = list(trainings)
        self.epochs = 0
        class_weights = balanced_class_weights(train.labels, num_classes) if config.class_weights else None
        by_class = torch.ones(num_classes, device=device) if class_weights is None else class_weights
        self.clip_weights = by_class[train.labels]
        objective = partial(loss, class_weights=class_weights, label_smoothing=config.label_smoothing)
        first = torch.arange(min(config.batch_size, len(train)))
        with seeded(trainings[0].seed, 0, device):  # its dropout may not touch the global random state
            loss_of_first = objective(models[0].train()(train.batch(first)), train.labels[: len(first)])
        self.stack = ModelStack(models, reached(models[0], loss_of_first), objective)
        self.optimizer = RowOptimizer(config, self.stack.matrix)

    def epoch(
        self, train: FusionExamples, validation: FusionExamples, scored_on: Sequence[FusionExamples]
    ) -> list[_Training]:
        """Train and validate one epoch, and drop who has stopped. Returns those that have a new report."""
        started = time.perf_counter()
        self.epochs += 1
        rates = [self.config.learning_rate * training.progress.schedule.scale for training in self.trainings]
        self.optimizer.learning_rate = self.stack.matrix.new_tensor(rates)[:, None]
        train_losses = self._descend(train)
        at_validation = self._answer(validation)
        answers = [at_validation if split is validation else self._answer(split) for split in scored_on]
        # Only here the GPU is waited for. What is left to do is little and goes seed by seed, on the CPU.
        losses = cast("list[float]", train_losses.tolist())
        labels, at_validation = validation.labels.cpu(), at_validation.cpu()
        scored = [(logits.cpu(), split.labels.cpu()) for split, logits in zip(scored_on, answers, strict=True)]
        seconds = (time.perf_counter() - started) / len(self.trainings)
        reported: list[_Training] = []
        for row, training in enumerate(self.trainings):
            progress = training.progress
            try:
                progress.check(losses[row])
                own = progress.score(at_validation[row], labels)
                scores = [progress.score(logits[row], truth) for logits, truth in scored]
            except TrainingError as error:
                training.error = error
                continue
            if progress.record(losses[row], own, scores, learning_rate=rates[row], seconds=seconds):
                training.best_weights = self.stack.row(row)
            reported.append(training)
        self._drop_stopped()
        return reported

    def _drop_stopped(self) -> None:
        """Compact the stack: a row that has stopped would be computed with for as long as the last one trains."""
        rows = [row for row, t in enumerate(self.trainings) if t.error is None and t.progress.unfinished()]
        if len(rows) < len(self.trainings):
            self.trainings = [self.trainings[row] for row in rows]
            self.stack.keep(rows)
            self.optimizer.keep(rows)

    def _descend(self, train: FusionExamples) -> Tensor:
        """Mean training loss [S] of an epoch; the GPU is not waited for."""
        self.stack.module.train()
        total = torch.zeros(len(self.trainings), device=self.device)
        order = self._order(len(train))
        with seeded(self.trainings[0].seed, self.epochs, self.device):
            for window in _split(order, self.config.batch_size * self.config.accumulate):
                for indices in _split(window, self.config.batch_size):
                    # `share_of`, row by row: 1 where a step is one batch.
                    share = self.clip_weights[indices].sum(dim=1) / self.clip_weights[window].sum(dim=1)
                    with self._autocast():
                        losses = share * self.stack.losses(train.batch(indices), train.labels[indices])
                    losses.sum().backward()  # rows share nothing: each gets the gradient of its own loss
                    total += losses.detach() * window.shape[1]
                self.optimizer.step(self.stack.matrix)
        return total / len(train)

    def _order(self, length: int) -> Tensor:
        """Each seed's own order of clips [S, N], that of `fit`."""
        orders: list[Tensor] = []
        for training in self.trainings:
            with seeded(training.seed, self.epochs, self.device) as order_of:
                orders.append(order_of(length))
        return torch.stack(orders).to(self.device)

    @torch.no_grad()
    def _answer(self, examples: FusionExamples) -> Tensor:
        """Logits [S, N, C]."""
        self.stack.module.eval()
        size = self.config.evaluation_batch_size or len(examples)
        with self._autocast():
            batches = [self.stack.logits(examples.batch(at)) for at in _split(torch.arange(len(examples)), size)]
            return torch.cat(batches, dim=1).float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16")


def _split(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    """Consecutive pieces of `size` along the last dimension; the last may be shorter."""
    return cast("tuple[Tensor, ...]", indices.split(size, dim=-1))
