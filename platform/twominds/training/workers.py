"""Several processes that train one model, so that each step is the step of one process with the same batch.

Every process draws the same order of clips from (seed, epoch) and takes every W-th clip of each batch. Its loss counts
with the weight that its clips have in the loss of the whole batch, so the sum of the gradients is the whole batch's
gradient; clipping and the optimizer come after the sum. Only what is drawn inside the model differs from one process:
each has dropout masks of its own. Statistics that a module keeps over batches (batch norm) would differ, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This process among those that train together; by default it is alone. Collective calls are everybody's."""

    rank: int = 0
    """This process's number, from 0."""
    count: int = 1
    """Number of processes."""
    device: str | torch.device = "cpu"
    """Where the tensors lie that they exchange."""

    @classmethod
    def joined(cls, device: str | torch.device) -> "Workers":
        """Those of torch's process group, or this process alone where there is none."""
        if not distributed.is_initialized():
            return cls(device=device)
        return cls(rank=distributed.get_rank(), count=distributed.get_world_size(), device=device)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def own(self, indices: Tensor) -> Tensor:
        """This process's part [about B / W] of the clips of a batch [B]; nothing where there are fewer clips."""
        return indices[self.rank :: self.count]

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; everybody gets the same bits."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum every gradient, in one message. A parameter that has none anywhere keeps none."""
        if self.count == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        message = self.add_up(torch.cat([present, *(gradient.flatten() for gradient in gradients)]))
        sizes = [len(parameters), *(p.numel() for p in parameters)]
        holders, *sums = cast("tuple[Tensor, ...]", message.split(sizes))
        for parameter, total, anywhere in zip(parameters, sums, cast("list[float]", holders.tolist()), strict=True):
            # Without a gradient the optimizer leaves a parameter alone; with zeros it would decay it.
            parameter.grad = total.view_as(parameter) if anywhere else None

    def align(self, model: nn.Module) -> None:
        """Give everybody the first process's weights."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def agreed(self, decision: bool) -> bool:
        """The first process's decision: clocks and files may tell others something else."""
        if self.count == 1:
            return decision
        word = torch.tensor(int(decision), device=self.device)
        distributed.broadcast(word, src=0)
        return bool(word)


ALONE = Workers()
"""Training in one process."""


def share_of(own: Tensor, batch: Tensor, class_weights: Tensor | None) -> float:
    """Factor on the mean loss of some labels [b] of a batch [B]; over all parts the sum is the batch's mean loss.

    The losses are means that are weighted by the class weight of each clip's label, also with label smoothing (torch's
    `cross_entropy`): sum / sum of weights. So parts count by their sums of weights.
    """
    if len(own) == len(batch):
        return 1.0
    if class_weights is None:
        return len(own) / len(batch)
    return float(class_weights[own].sum() / class_weights[batch].sum())
