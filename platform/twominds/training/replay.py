"""A step of training recorded once and replayed: to launch a small model's kernels takes longer than they run."""

from collections.abc import Callable

import torch
from torch import Tensor


class Replayed:
    """A function from tensor to tensor that a GPU does again from a recording (a CUDA graph), without its Python.

    The function may read and change other tensors, as long as they stay where they are, and draw from torch's random
    state: it draws the same as when it is called. What it does besides happens when it is recorded, and not again. It
    may neither wait for the GPU nor look at data. On the CPU, and for an argument of another shape than the first, it
    is simply called.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self.forget()

    def forget(self) -> None:
        """Record it anew: what the function reads or changes lies elsewhere now."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._argument: Tensor | None = None
        self._answer = torch.empty(0)

    def __call__(self, argument: Tensor) -> Tensor:
        """The function's answer, which the next call may overwrite."""
        if not argument.is_cuda:
            return self._function(argument)
        if self._argument is None:  # a first call loads kernels and libraries, which can't be recorded
            self._argument = argument.clone()
            return self._function(argument)
        if argument.shape != self._argument.shape:
            return self._function(argument)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._answer = self._function(self._argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._answer
