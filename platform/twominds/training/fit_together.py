"""Train fusion models of one architecture as one batched model: on a GPU they take little longer than one does.

They are the seeds of a candidate, or those of several candidates that share what gives a model its shape. For each it
is the training of `fit`: the same order of clips, clipping, schedule, early stopping and choice of the epoch. What
can't be the same are the dropout masks, which are drawn for all models together, and the last bits of sums.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from twominds.errors import ConfigError, TrainingError
from twominds.training.examples import FusionExamples
from twominds.training.fit_config import FitConfig
from twominds.training.losses import FusionLoss, LossFunction, fusion_loss
from twominds.training.objective import Objective
from twominds.training.optim import HasParameterGroups
from twominds.training.progress import EpochReport, FitResult, Progress, seeded
from twominds.training.replay import Replayed
from twominds.training.stacked import ModelStack, RowOptimizer, reached, weights_of

_OWN_FIT = ("learning_rate", "weight_decay", "grad_clip", "label_smoothing", "scheduler")
_OWN_LOSS = ("prototype_weight", "diversity_weight")
OWN_SETTINGS = frozenset({*_OWN_FIT, *_OWN_LOSS, "prototype_temperature"})
"""Settings in which models that are trained together may differ; all others they share."""


def fit_together(
    models: Sequence[nn.Module],
    train: FusionExamples,
    validation: FusionExamples,
    configs: Sequence[FitConfig],
    *,
    seeds: Sequence[int],
    losses: Sequence[LossFunction],
    objective: Objective,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, EpochReport], Collection[int] | None] | None = None,
    scored_on: Sequence[FusionExamples] = (),
) -> list[FitResult | TrainingError | None]:
    """Train `models` in place, each by `fit`'s rules; they end with the weights of their best epochs.

    A model that has stopped is dropped from the batch, so that it costs nothing any more. Dropout is drawn from the
    seed of the first that still trains: a model's masks depend on its company, but the same call gives the same bits on
    the CPU. An epoch's seconds are shared out to the models that trained in it.

    Args:
        models: of one architecture, without parameter groups or control flow that looks at data.
        train: what is learned from.
        validation: what selects the epoch, and when a plateau lowers a model's learning rate.
        configs: each model's settings; they may differ in `OWN_SETTINGS`.
        seeds: each model's, of shuffling and dropout; its initialisation is the caller's.
        losses: each model's. Where they differ all are `FusionLoss`.
        objective: the task's, by which epochs are compared.
        device: where models and clips live.
        on_epoch: called after each epoch with the place in `models` and the report, for every model that trained in it;
            returns the places of those that are to be broken off, if any. There is no state to resume from. An
            exception in it ends all training, and no model is changed.
        scored_on: the splits whose mean score and loss select the epoch; none given: validation.

    Returns:
        For each model its result. One whose loss or answers were not numbers has the error instead, one that was broken
        off has None. Their models are as they came, and neither touches the others.

    Raises:
        ConfigError: a model has parameter groups of its own, or settings differ that must not.
    """
    if not len(models) == len(seeds) == len(configs) == len(losses):
        counts = f"{len(models)} models, {len(seeds)} seeds, {len(configs)} configs and {len(losses)} losses"
        raise ValueError(f"Each model needs one of each, got {counts}.")
    if any(isinstance(model, HasParameterGroups) for model in models):
        raise ConfigError("A model with parameter groups of its own can't be trained in a batch: use fit.")
    if not models:
        return []
    shared = [replace(config, **{name: getattr(configs[0], name) for name in _OWN_FIT}) for config in configs]
    if any(config != configs[0] for config in shared):
        raise ConfigError(f"Models that are trained together may only differ in {', '.join(sorted(OWN_SETTINGS))}.")
    models = [model.to(device) for model in models]
    trainings = [_Training(config, seed, train, objective) for config, seed in zip(configs, seeds, strict=True)]
    run = _Together(models, trainings, losses, train, objective, torch.device(device))
    while run.trainings:
        for training in run.epoch(validation, scored_on or (validation,)):
            if on_epoch is not None and not training.broken_off:
                report = replace(training.progress.history[-1], fit_state=_no_state)
                for place in on_epoch(trainings.index(training), report) or ():
                    trainings[place].broken_off = True
        run.drop_stopped()
    return [training.finish(model) for training, model in zip(trainings, models, strict=True)]


def _no_state() -> NoReturn:
    raise TrainingError("Models that are trained together have no state to resume from.")


class _Training:
    """One model's training so far: everything but its row."""

    def __init__(self, config: FitConfig, seed: int, train: FusionExamples, objective: Objective) -> None:
        self.config, self.seed = config, seed
        self.progress = Progress(config, seed, train, objective)
        self.best_weights: dict[str, Tensor] = {}
        self.error: TrainingError | None = None
        self.broken_off = False

    def unfinished(self) -> bool:
        """Whether another epoch is due."""
        return self.error is None and not self.broken_off and self.progress.unfinished()

    def finish(self, model: nn.Module) -> FitResult | TrainingError | None:
        """The result, with the best weights in `model`; or the error."""
        if self.error is not None or self.broken_off:
            return self.error
        for name, tensor in weights_of(model.eval()).items():
            tensor.copy_(self.best_weights[name])
        return self.progress.result()


class _Together:
    """The models that still train: row i of everything is that of `trainings[i]`."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        trainings: Sequence[_Training],
        losses: Sequence[LossFunction],
        train: FusionExamples,
        objective: Objective,
        device: torch.device,
    ) -> None:
        self.trainings, self.train, self.device = list(trainings), train, device
        self.config = config = trainings[0].config  # for what all share
        self.epochs = 0
        class_weights = objective.class_weights(train.labels) if config.class_weights else None
        weights = objective.weights_of_mean(class_weights)
        self.clip_weights = torch.ones(len(train), device=device) if weights is None else weights[train.labels]
        configs = [training.config for training in trainings]
        loss_of_one, settings = _loss_of_one(losses, configs, class_weights, objective, device)
        first = torch.arange(min(config.batch_size, len(train)))
        with seeded(trainings[0].seed, 0, device):  # its dropout may not touch the global random state
            output = models[0].train()(train.batch(first))
        of_first = {name: setting[0] for name, setting in settings.items()}
        loss_of_first = loss_of_one(output, train.labels[: len(first)], **of_first)
        self.stack = ModelStack(models, reached(models[0], loss_of_first), loss_of_one, settings)
        self.optimizer = RowOptimizer(configs, self.stack.matrix)
        self.step = Replayed(self._step)

    def epoch(self, validation: FusionExamples, scored_on: Sequence[FusionExamples]) -> list[_Training]:
        """Train and validate one epoch. Returns those that have a new report."""
        started = time.perf_counter()
        self.epochs += 1
        rates = [training.progress.schedule.rate(training.config.learning_rate) for training in self.trainings]
        self.optimizer.set_learning_rates(rates)
        train_losses = self._descend()
        at_validation = self._answer(validation)
        answers = [at_validation if split is validation else self._answer(split) for split in scored_on]
        # Only here the GPU is waited for. What is left to do is little and goes model by model, on the CPU.
        losses = cast("list[float]", train_losses.tolist())
        labels, at_validation = validation.labels.cpu(), at_validation.cpu()
        scored = [
            (logits.cpu(), split.labels.cpu(), split.left_out) for split, logits in zip(scored_on, answers, strict=True)
        ]
        seconds = (time.perf_counter() - started) / len(self.trainings)
        reported: list[_Training] = []
        for row, training in enumerate(self.trainings):
            progress = training.progress
            try:
                progress.check(losses[row])
                own = progress.score(at_validation[row], labels, validation.left_out)
                scores = [progress.score(logits[row], truth, left_out) for logits, truth, left_out in scored]
            except TrainingError as error:
                training.error = error
                continue
            if progress.record(losses[row], own, scores, learning_rate=rates[row], seconds=seconds):
                training.best_weights = self.stack.row(row)
            reported.append(training)
        return reported

    def drop_stopped(self) -> None:
        """Compact the stack: a row that has stopped would be computed with for as long as the last one trains."""
        rows = [row for row, training in enumerate(self.trainings) if training.unfinished()]
        if len(rows) < len(self.trainings):
            self.trainings = [self.trainings[row] for row in rows]
            self.stack.keep(rows)
            self.optimizer.keep(rows)
            self.step.forget()

    def _descend(self) -> Tensor:
        """Mean training loss [S] of an epoch; the GPU is not waited for."""
        self.stack.module.train()
        total = torch.zeros(len(self.trainings), device=self.device)
        order = self._order(len(self.train))
        with seeded(self.trainings[0].seed, self.epochs, self.device):
            for window in _split(order, self.config.batch_size * self.config.accumulate):
                total += self.step(window) * window.shape[1]
        return total / len(self.train)

    def _step(self, window: Tensor) -> Tensor:
        """One step of the optimizer by the clips at `window` [S, B]. Returns their losses [S]."""
        total = torch.zeros(len(self.trainings), device=self.device)
        for indices in _split(window, self.config.batch_size):
            # `share_of`, row by row: 1 where a step is one batch.
            share = self.clip_weights[indices].sum(dim=1) / self.clip_weights[window].sum(dim=1)
            with self._autocast():
                losses = share * self.stack.losses(self.train.batch(indices), self.train.labels[indices])
            losses.sum().backward()  # rows share nothing: each gets the gradient of its own loss
            total += losses.detach()
        self.optimizer.step(self.stack.matrix)
        return total

    def _order(self, length: int) -> Tensor:
        """Each model's own order of clips [S, N], that of `fit`."""
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


def _loss_of_one(
    losses: Sequence[LossFunction],
    configs: Sequence[FitConfig],
    class_weights: Tensor | None,
    objective: Objective,
    device: torch.device,
) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """From output, labels and settings to the loss of one model; and the settings [S] by name, where they differ."""
    smoothings = [config.label_smoothing for config in configs]
    if all(loss == losses[0] for loss in losses) and len(set(smoothings)) == 1:
        settings_of_all = {"class_weights": class_weights, "label_smoothing": smoothings[0]}
        return partial(losses[0], **settings_of_all, criterion=objective.loss), {}
    if not all(isinstance(loss, FusionLoss) for loss in losses):
        raise ConfigError("Models with other losses than FusionLoss are only trained together where they share it.")
    settings = {"label_smoothing": smoothings}
    settings |= {name: [getattr(loss, name) for loss in losses] for name in _OWN_LOSS}
    tensors = {name: torch.tensor(values, device=device) for name, values in settings.items()}
    return partial(fusion_loss, class_weights=class_weights, criterion=objective.loss), tensors


def _split(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    """Consecutive pieces of `size` along the last dimension; the last may be shorter."""
    return cast("tuple[Tensor, ...]", indices.split(size, dim=-1))
