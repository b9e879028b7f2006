"""Losses: the task's criterion alone, cross entropy of class logits, and LEYA's objective for the fusion (eq. 10)."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.errors import ConfigError
from twominds.fusion.model import FusionOutput

Number = float | Tensor
"""A tensor [] where models with settings of their own are batched."""


class HasLogits(Protocol):
    """What every classifier of the platform returns."""

    @property
    def logits(self) -> Tensor:
        """[N, C]."""
        ...


class Criterion(Protocol):
    """From logits [N, K] and labels to the mean loss of N points: `Objective.loss` of the task."""

    def __call__(
        self, logits: Tensor, labels: Tensor, *, class_weights: Tensor | None, label_smoothing: Number
    ) -> Tensor:
        """Mean loss, of classes under class weights [C]."""
        ...


class LossFunction(Protocol):
    """From a model's output to the scalar that training descends."""

    def __call__(
        self,
        output: Any,
        labels: Tensor,
        *,
        class_weights: Tensor | None,
        label_smoothing: float,
        criterion: Criterion,
    ) -> Tensor:
        """Mean loss of N points with labels [N] (or [N, K]) under class weights [C], by the task's criterion."""
        ...


def loss_of_logits(
    output: HasLogits,
    labels: Tensor,
    *,
    class_weights: Tensor | None,
    label_smoothing: float,
    criterion: Criterion,
) -> Tensor:
    """The task's criterion alone: the loss of a unimodal encoder and of fusion models without prototypes."""
    return criterion(output.logits.float(), labels, class_weights=class_weights, label_smoothing=label_smoothing)


@dataclass(frozen=True, kw_only=True)
class FusionLoss:
    """L = CE(logits) + prototype_weight * CE(prototype logits) + diversity_weight * diversity (LEYA, eq. 10).

    Both cross entropies (of another task: its criterion) take the class weights and the label smoothing. Models without
    a prototype head get the first term alone. The defaults are the paper's.
    """

    prototype_weight: float = 0.2
    """lambda_proto: weight of the cross entropy of the prototype logits."""
    diversity_weight: float = 0.0
    """lambda_div: weight of the prototypes' diversity term."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a negative weight."""
        if self.prototype_weight < 0 or self.diversity_weight < 0:
            raise ConfigError("prototype_weight and diversity_weight must be 0 or more.")

    def __call__(
        self,
        output: FusionOutput,
        labels: Tensor,
        *,
        class_weights: Tensor | None,
        label_smoothing: float,
        criterion: Criterion,
    ) -> Tensor:
        """See `LossFunction`."""
        return fusion_loss(
            output,
            labels,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            criterion=criterion,
            prototype_weight=self.prototype_weight,
            diversity_weight=self.diversity_weight,
        )


def fusion_loss(
    output: FusionOutput,
    labels: Tensor,
    *,
    class_weights: Tensor | None,
    label_smoothing: Number,
    criterion: Criterion,
    prototype_weight: Number,
    diversity_weight: Number,
) -> Tensor:
    """`FusionLoss` of one model, where its settings may be tensors: in a batch of models each has its own."""
    loss = criterion(output.logits.float(), labels, class_weights=class_weights, label_smoothing=label_smoothing)
    if output.prototype_logits is not None and not _is_zero(prototype_weight):
        prototypes = criterion(
            output.prototype_logits.float(), labels, class_weights=class_weights, label_smoothing=label_smoothing
        )
        loss = loss + prototype_weight * prototypes
    if output.diversity is not None and not _is_zero(diversity_weight):
        loss = loss + diversity_weight * output.diversity
    return loss


def balanced_class_weights(labels: Tensor, num_outputs: int) -> Tensor:
    """Weights [C] of N / (C * N_c) from the training labels (scikit-learn's "balanced"); 0 for a class with no clip."""
    counts = torch.bincount(labels, minlength=num_outputs).float()
    return torch.where(counts > 0, len(labels) / (num_outputs * counts.clamp_min(1)), 0.0)


def _is_zero(weight: Number) -> bool:
    """A tensor is a weight, whatever is in it: to look would be to wait for a GPU, and can't be batched."""
    return not isinstance(weight, Tensor) and weight == 0


def cross_entropy_of_logits(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, label_smoothing: Number
) -> Tensor:
    """`F.cross_entropy`, to the bit, with smoothing that may be a tensor.

    Under class weights and smoothing together torch's own selects labels by a mask, for which a GPU is waited for in
    every step, and which `torch.func.vmap` can't batch.
    """
    if not isinstance(label_smoothing, Tensor) and (class_weights is None or not label_smoothing):
        return F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=label_smoothing)
    if class_weights is None:
        class_weights = logits.new_ones(logits.shape[1])
    log_probabilities = logits.log_softmax(dim=1)
    of_label = F.nll_loss(log_probabilities, labels, weight=class_weights)
    of_all = -(log_probabilities * class_weights).sum(dim=1).sum() / class_weights[labels].sum()
    return of_label * (1 - label_smoothing) + of_all * (label_smoothing / len(class_weights))
