"""What a model is trained for, answers and is judged by: all of it follows from the task's output.

Classes: cross entropy, softmax, the most frequent class as the answer that needs no model. Intensities: a loss of the
predicted numbers, a sigmoid between the least and the most, and the training mean.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.encoders.encoder import activated
from twominds.errors import ConfigError
from twominds.tasks import AH_VIDEO, Classes, Task
from twominds.training.losses import Number, balanced_class_weights, cross_entropy_of_logits
from twominds.training.metrics import Metric, majority, metric_of

CriterionName = Literal["cross_entropy", "sigmoid_cross_entropy", "binary_cross_entropy", "mse", "pearson", "ccc"]
"""The loss of the logits. `sigmoid_cross_entropy` takes each class for a question of its own, `binary_cross_entropy`
two classes for one question: there the weight of the classes is that of a yes (torch's `pos_weight`), and the mean is
over points rather than over weights."""

_SMALL = 1e-7
"""Added to a deviation before it divides (HSEmotion's public code)."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The task as training sees it."""

    task: Task = AH_VIDEO
    """What is recognised."""
    criterion: CriterionName | None = None
    """The loss; None: cross entropy of classes, mean squared error of intensities."""
    output_weights: tuple[float, ...] | None = None
    """How much each intensity counts in the loss, in parts of their sum (HSEmotion); None: all the same."""
    chosen_by: str = ""
    """Name of the metric that chooses epochs and candidates, where it is not the task's."""
    thresholds: tuple[float, ...] = ()
    """Probabilities from which the last of two classes is tried as the answer where models are compared: each is worth
    what the best of them makes of it (ConflictAwareAH's choice of epochs). None: the more probable class answers."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the loss is not one of such outputs, or the weights are none of intensities."""
        of_classes = self.name in ("cross_entropy", "sigmoid_cross_entropy", "binary_cross_entropy")
        if of_classes != isinstance(self.task.output, Classes):
            kind = "classes" if of_classes else "intensities"
            raise ConfigError(f"The loss {self.name} is one of {kind}, which {self.task.name} is not about.")
        if self.num_outputs != 2 and (self.thresholds or self.name == "binary_cross_entropy"):
            raise ConfigError(f"Thresholds and binary_cross_entropy are for two classes, not for {self.num_outputs}.")
        weights = self.output_weights
        if weights is None:
            return
        if of_classes or len(weights) != self.num_outputs or min(weights) < 0 or not sum(weights) > 0:
            raise ConfigError(
                f"output_weights are one for each intensity, none of them below 0, not {weights} for {self.task.name}."
            )

    @property
    def name(self) -> CriterionName:
        """The loss's name."""
        return self.criterion or ("cross_entropy" if isinstance(self.task.output, Classes) else "mse")

    @property
    def chosen(self) -> list[Any]:
        """What a recipe chose, for fingerprints: nothing by default, as before there was a choice."""
        chosen = [self.criterion, self.output_weights, *([self.chosen_by] if self.chosen_by else [])]
        return chosen if any(chosen) else []

    @property
    def num_outputs(self) -> int:
        """Numbers that a model gives for a point."""
        return self.task.num_outputs

    @cached_property
    def metric(self) -> Metric:
        """What answers are judged by."""
        return metric_of(self.task, self.chosen_by)

    def class_weights(self, labels: Tensor) -> Tensor | None:
        """Weights [C] that balance the classes of the training labels [N]; None of intensities."""
        return balanced_class_weights(labels, self.num_outputs) if isinstance(self.task.output, Classes) else None

    def weights_of_mean(self, class_weights: Tensor | None) -> Tensor | None:
        """The weight of each class [C] in the mean that `loss` takes; None: every point counts the same."""
        return None if self.name == "binary_cross_entropy" else class_weights

    def loss(
        self, logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, label_smoothing: Number = 0.0
    ) -> Tensor:
        """Mean loss of N points.

        Args:
            logits: [N, K].
            labels: int64 [N] classes, or float [N, K] intensities.
            class_weights: [C]; of classes alone.
            label_smoothing: of classes alone.
        """
        if self.name == "cross_entropy":
            return cross_entropy_of_logits(logits, labels, class_weights, label_smoothing)
        if self.name == "binary_cross_entropy":
            truth = labels.to(logits) * (1 - label_smoothing) + label_smoothing / 2
            yes = None
            if class_weights is not None:  # where only one answer is known there is nothing to balance
                balance = class_weights[1] / class_weights[0]
                yes = torch.where((class_weights > 0).all(), balance, torch.ones_like(balance))
            return F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], truth, pos_weight=yes)
        if self.name == "sigmoid_cross_entropy":
            truth = F.one_hot(labels, self.num_outputs).to(logits)
            truth = truth * (1 - label_smoothing) + label_smoothing / 2
            of_points = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
            weights = torch.ones_like(of_points) if class_weights is None else class_weights[labels]
            return (of_points * weights).sum() / weights.sum()
        of_outputs = _OF_INTENSITIES[self.name](activated(logits, self.task.output), labels.to(logits))
        if self.output_weights is None:
            return of_outputs.mean()
        weights = of_outputs.new_tensor(self.output_weights)
        return (of_outputs * weights).sum() / weights.sum()

    def answers(self, logits: Tensor) -> npt.NDArray[Any]:
        """What the metric is asked about, from logits [N, K]: classes [N], or intensities [N, K]."""
        if isinstance(self.task.output, Classes):
            return logits.argmax(dim=1).cpu().numpy()
        return activated(logits, self.task.output).cpu().numpy()

    def constant(self, labels: Tensor) -> npt.NDArray[Any]:
        """The answer that sees no clip, from all labels of training: the most frequent class [], or the mean [K]."""
        known = labels.cpu().numpy()
        return np.asarray(majority(known, self.num_outputs) if known.ndim == 1 else known.mean(axis=0))

    def score(self, labels: Tensor, left_out: Tensor, logits: Tensor, constant: npt.NDArray[Any]) -> float:
        """The metric over all labelled points of a split; those that can't be answered get the constant.

        Args:
            labels: What is known of the points that are answered.
            left_out: What is known of the others, on the CPU.
            logits: [N, K], the answers.
            constant: As `constant` gives it for training.
        """
        truth = torch.cat([labels.cpu(), left_out]).numpy()
        guesses = np.broadcast_to(constant, (len(left_out), *constant.shape))
        answers = [self.answers(logits)]
        if self.thresholds:
            probabilities = activated(logits, self.task.output)[:, -1].double().cpu().numpy()
            answers = [(probabilities >= threshold).astype(np.int64) for threshold in self.thresholds]
        return max(self.metric(truth, np.concatenate([of_split, guesses])) for of_split in answers)


def _mse(predicted: Tensor, truth: Tensor) -> Tensor:
    return (predicted - truth).square().mean(dim=0)


def _moments(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Population variances of both, their covariance and the difference of their means, per output [K]."""
    means = predicted.mean(dim=0), truth.mean(dim=0)
    covariance = ((predicted - means[0]) * (truth - means[1])).mean(dim=0)
    return predicted.var(dim=0, correction=0), truth.var(dim=0, correction=0), covariance, means[0] - means[1]


def _pearson(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - Pearson's correlation in the batch (HSEmotion's loss for mimicry)."""
    of_predicted, of_truth, covariance, _ = _moments(predicted, truth)
    # The root of a variance of 0 has no slope: a constant output would stop training.
    return 1 - covariance / ((of_predicted * of_truth + _SMALL**2).sqrt() + _SMALL)


def _ccc(predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - Lin's concordance in the batch."""
    of_predicted, of_truth, covariance, apart = _moments(predicted, truth)
    return 1 - 2 * covariance / (of_predicted + of_truth + apart.square() + _SMALL)


_OF_INTENSITIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": _mse, "pearson": _pearson, "ccc": _ccc}
"""From predicted and true intensities [N, K] to the loss of each [K]."""
