"""Optimizers and learning-rate schedules of the training loop, by name."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn
from torch.optim import Optimizer

OptimizerName = Literal["adamw", "adam", "rmsprop", "sgd"]
SchedulerName = Literal["cosine", "plateau", "none"]

PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 2
"""LEYA's plateau schedule: half the learning rate after more than 2 epochs without a lower validation loss."""


@runtime_checkable
class HasParameterGroups(Protocol):
    """A model that gives its parts learning rates of their own."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Groups for a torch optimizer, for the base learning rate `lr`."""
        ...


def trainable_groups(model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """The optimizer's parameter groups: the model's own if it has any, else all that require a gradient."""
    if isinstance(model, HasParameterGroups):
        return model.parameter_groups(learning_rate)
    return [{"params": [p for p in model.parameters() if p.requires_grad], "lr": learning_rate}]


def _eager(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """The optimizer without what keeps its methods out of torch's compiler.

    For that torch imports the compiler, two seconds of each process that trains. Nothing is compiled here.
    """
    names = "add_param_group", "load_state_dict", "state_dict", "zero_grad"
    methods = {name: unwrap(getattr(kind, name)) for name in names}
    step = torch.no_grad()(unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})


AdamW, Adam = _eager(torch.optim.AdamW), _eager(torch.optim.Adam)
RMSprop, SGD = _eager(torch.optim.RMSprop), _eager(torch.optim.SGD)

KERAS_EPSILON = 1e-7
"""What Keras's Adam adds to the root of the second moment; torch's own default is a tenth of it."""


def make_optimizer(
    name: OptimizerName, groups: Iterable[dict[str, Any]], *, learning_rate: float, weight_decay: float, momentum: float
) -> Optimizer:
    """The optimizer; `momentum` is that of rmsprop and sgd. Groups keep settings of their own."""
    groups = list(groups)
    # On a GPU torch chooses as well by itself. On a CPU its default is a loop over the parameters in Python: of a small
    # model's training a quarter.
    at_once = all(p.device.type == "cpu" for group in groups for p in group["params"]) or None
    match name:
        case "adamw":
            return AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=at_once)
        case "adam":
            return Adam(groups, lr=learning_rate, weight_decay=weight_decay, eps=KERAS_EPSILON, fused=at_once)
        case "rmsprop":
            return RMSprop(groups, lr=learning_rate, weight_decay=weight_decay, momentum=momentum, foreach=at_once)
        case "sgd":
            return SGD(groups, lr=learning_rate, weight_decay=weight_decay, momentum=momentum, foreach=at_once)


@dataclass(kw_only=True)
class Schedule:
    """Factor on every group's own learning rate, changed once per epoch; its whole state is three numbers."""

    name: SchedulerName
    epochs: int
    floor: float = 0.0
    """The learning rate that no group falls below, unless its own is lower."""
    scale: float = 1.0
    lowest_loss: float = math.inf
    waited: int = 0

    def rate(self, base: float) -> float:
        """The learning rate of a group whose own is `base`."""
        floor = min(self.floor, base)
        return floor + (base - floor) * self.scale

    def step(self, epoch: int, validation_loss: float) -> None:
        """After `epoch` (from 1) with its validation loss: set the factor of the next epoch."""
        match self.name:
            case "cosine":
                self.scale = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
            case "plateau":
                self.waited = 0 if validation_loss < self.lowest_loss else self.waited + 1
                self.lowest_loss = min(self.lowest_loss, validation_loss)
                if self.waited > PLATEAU_PATIENCE:
                    self.scale *= PLATEAU_FACTOR
                    self.waited = 0
            case "none":
                pass
