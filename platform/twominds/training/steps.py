"""How losses become steps of the optimizer: plainly here, sharded by DeepSpeed in `deepspeed.py`."""

from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from twominds.training.workers import Workers


class Steps(Protocol):
    """A model in training."""

    model: nn.Module
    """What is trained and evaluated: its forward pass is everybody's."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this process's part of the loss."""
        ...

    def step(self) -> None:
        """One step down the gradients of all processes, which are then forgotten."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """A copy of the state dict of the whole model."""
        ...


class PlainSteps:
    """Every process has the whole model and the whole optimizer."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, grad_clip: float | None, workers: Workers) -> None:
        self.model = model
        self._optimizer, self._grad_clip, self._workers = optimizer, grad_clip, workers
        self._parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """See `Steps`."""
        loss.backward()

    def step(self) -> None:
        """See `Steps`."""
        self._workers.add_up_gradients(self._parameters)
        if self._grad_clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._grad_clip, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> dict[str, Tensor]:
        """See `Steps`."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
