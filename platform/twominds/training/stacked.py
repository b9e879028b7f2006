"""Models of one architecture as one: their weights stacked, and the optimizers' steps taken row by row.

A small model keeps a GPU waiting for the next launch, not for arithmetic. S of them take the launches of one, if the
forward pass is batched over their stacked weights (`torch.func`) and a step is a few operations on one matrix.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from twominds.fusion.batch import FusionInputs
from twominds.records import View
from twominds.training.fit_config import FitConfig
from twominds.training.optim import KERAS_EPSILON, OptimizerName

_ALPHA, _BETAS, _EPSILON = 0.99, (0.9, 0.999), 1e-8
"""torch's own defaults, which `make_optimizer` leaves as they are."""
_NORM_EPSILON = 1e-6
"""What `nn.utils.clip_grad_norm_` adds to a norm before it divides by it."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name: what a forward pass needs."""
    return {name: t.detach() for name, t in chain(model.named_parameters(), model.named_buffers())}


def reached(model: nn.Module, loss: Tensor) -> list[str]:
    """The parameters that get a gradient. torch's optimizers leave the others alone; one of zeros would decay them."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    gradients = cast("tuple[Tensor | None, ...]", gradients)
    return [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is not None]


class ModelStack:
    """S fusion models: what is trained is the rows of one matrix, the rest of their weights is stacked name by name."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        trained: Sequence[str],
        objective: Callable[..., Tensor],
        settings: Mapping[str, Tensor],
    ) -> None:
        """Copies the models' weights.

        Args:
            models: of one architecture.
            trained: names of the parameters that steps are to change.
            objective: from one model's output, its clips' labels and, by name, its settings to its loss.
            settings: of the objective [S]: each model's own.
        """
        self._objective, self._settings = objective, dict(settings)
        self.module = copy.deepcopy(models[0]).to("meta")
        """Computes with the weights that `functional_call` hands it, and has none itself."""
        every = [weights_of(model) for model in models]
        self._shapes = {name: every[0][name].shape for name in trained}
        rows = [torch.cat([weights[name].flatten() for name in trained]) for weights in every]
        self.matrix = torch.stack(rows).requires_grad_()
        """[S, P], a leaf."""
        others = [name for name in every[0] if name not in self._shapes]
        self._others = {name: torch.stack([weights[name] for weights in every]) for name in others}

    def losses(self, inputs: FusionInputs, labels: Tensor) -> Tensor:
        """Each model's loss [S] of clips of its own: tokens [S, B, D_m], mask [S, B, M], labels [S, B].

        Each has dropout masks of its own, too.
        """
        batched = cast("Callable[..., Tensor]", torch.vmap(self._loss, randomness="different"))
        return batched(self._weights(), inputs.tokens, inputs.mask, labels, self._settings)

    def logits(self, inputs: FusionInputs) -> Tensor:
        """[S, N, C]: every model's answers to the same N clips."""
        batched = cast("Callable[..., Tensor]", torch.vmap(self._logits, in_dims=(0, None, None)))
        return batched(self._weights(), inputs.tokens, inputs.mask)

    def row(self, row: int) -> dict[str, Tensor]:
        """A copy of the weights of one model."""
        copied = self.matrix.detach()[row : row + 1].clone()  # one copy, however many parameters
        views = {name: view[0] for name, view in self._views(copied).items()}
        return views | {name: other[row].clone() for name, other in self._others.items()}

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows. The matrix is a new leaf then."""
        self.matrix = self.matrix.detach()[list(rows)].requires_grad_()
        self._others = {name: other[list(rows)] for name, other in self._others.items()}
        self._settings = {name: setting[list(rows)] for name, setting in self._settings.items()}

    # vmap batches over tensors and dictionaries of them: the fusion's inputs and outputs stay within one model's part.

    def _loss(
        self,
        weights: dict[str, Tensor],
        tokens: dict[View, Tensor],
        mask: Tensor,
        labels: Tensor,
        settings: dict[str, Tensor],
    ) -> Tensor:
        return self._objective(self._output(weights, tokens, mask), labels, **settings)

    def _logits(self, weights: dict[str, Tensor], tokens: dict[View, Tensor], mask: Tensor) -> Tensor:
        return self._output(weights, tokens, mask).logits

    def _output(self, weights: dict[str, Tensor], tokens: dict[View, Tensor], mask: Tensor) -> Any:
        inputs = FusionInputs(tokens=tokens, mask=mask)
        # Tied weights would be looked for in every step. No fusion has any; a meta tensor would give them away.
        return functional_call(self.module, weights, (inputs,), tie_weights=False)

    def _weights(self) -> dict[str, Tensor]:
        """[S, ...] by name; gradients flow to the matrix."""
        return self._views(self.matrix) | self._others

    def _views(self, matrix: Tensor) -> dict[str, Tensor]:
        """Split, not sliced: the gradient of a split is one concatenation, that of each slice a matrix of zeros."""
        sizes = [shape.numel() for shape in self._shapes.values()]
        pieces = cast("tuple[Tensor, ...]", matrix.split(sizes, dim=1))
        return {name: p.view(-1, *shape) for (name, shape), p in zip(self._shapes.items(), pieces, strict=True)}


class RowOptimizer:
    """For every row of a matrix the very step of `make_optimizer`'s optimizer, after clipping the row's gradient."""

    def __init__(self, configs: Sequence[FitConfig], matrix: Tensor) -> None:
        """Takes each row's settings; they share the optimizer and its momentum."""

        def column(values: Sequence[float]) -> Tensor:
            return matrix.detach().new_tensor(values)[:, None]

        self.learning_rate = column([config.learning_rate for config in configs])
        """[S, 1], as are the next two."""
        self.weight_decay = column([config.weight_decay for config in configs])
        self.grad_clip = column([math.inf if config.grad_clip is None else config.grad_clip for config in configs])
        self._name: OptimizerName = configs[0].optimizer
        self._momentum = configs[0].momentum
        self._averages = [torch.zeros_like(matrix, requires_grad=False) for _ in range(1 if self._name == "sgd" else 2)]
        self._steps = torch.zeros((), dtype=torch.float64, device=matrix.device)
        """A tensor, as are the rates: a step may be recorded and replayed."""

    def set_learning_rates(self, rates: Sequence[float]) -> None:
        """Those of the rows [S], from the next step on."""
        self.learning_rate.copy_(self.learning_rate.new_tensor(rates)[:, None])

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows."""
        chosen = list(rows)
        self.learning_rate, self.weight_decay = self.learning_rate[chosen], self.weight_decay[chosen]
        self.grad_clip = self.grad_clip[chosen]
        self._averages = [average[chosen] for average in self._averages]

    @torch.no_grad()
    def step(self, matrix: Tensor) -> None:
        """Change `matrix` [S, P] by its gradient, which is then forgotten. Nothing here waits for a GPU."""
        gradient, matrix.grad = matrix.grad, None
        assert gradient is not None
        self._steps += 1
        norm = cast(Tensor, torch.linalg.vector_norm(gradient, dim=1, keepdim=True))
        gradient.mul_((self.grad_clip / (norm + _NORM_EPSILON)).clamp(max=1.0))
        match self._name:
            case "rmsprop":
                square, velocity = self._averages
                gradient.addcmul_(matrix, self.weight_decay)
                square.mul_(_ALPHA).addcmul_(gradient, gradient, value=1 - _ALPHA)
                velocity.mul_(self._momentum).addcdiv_(gradient, square.sqrt().add_(_EPSILON))
                matrix.addcmul_(velocity, -self.learning_rate)
            case "adamw" | "adam":
                mean, square = self._averages
                if self._name == "adam":
                    gradient.addcmul_(matrix, self.weight_decay)
                else:
                    matrix.mul_(1 - self.learning_rate * self.weight_decay)
                mean.lerp_(gradient, 1 - _BETAS[0])
                square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
                epsilon = KERAS_EPSILON if self._name == "adam" else _EPSILON
                scale = square.sqrt().div_((1 - _BETAS[1] ** self._steps).sqrt()).add_(epsilon)
                matrix.addcmul_(mean / scale, -self.learning_rate / (1 - _BETAS[0] ** self._steps))
            case "sgd":
                (velocity,) = self._averages
                gradient.addcmul_(matrix, self.weight_decay)
                velocity.mul_(self._momentum).add_(gradient)
                matrix.addcmul_(velocity, -self.learning_rate)
