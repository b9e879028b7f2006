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
        self._argument: Tensor | None = None
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    def __call__(self, argument: Tensor) -> Tensor:
        """The function's answer, which the next call may overwrite."""
        if not argument.is_cuda:
            return self._function(argument)
        if self._argument is None:  # a first call loads kernels and libraries, which can't be recorded
            self._argument = argument.clone()
            return self._function(argument)
        if argument.shape != self._argument.shape:
            return self._function(argument)
        if self._recorded is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                answer = self._function(self._argument)
            self._recorded = graph, answer
        graph, answer = self._recorded
        self._argument.copy_(argument)
        graph.replay()
        return answer
