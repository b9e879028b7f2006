import torch
from torch import Tensor

from twominds.training.replay import Replayed


def test_on_the_cpu_the_function_is_called_each_time() -> None:
    """What is recorded on a GPU is tested in tests/gpu/test_fit_together_gpu.py, by what comes out of training."""
    seen: list[Tensor] = []

    def doubled(argument: Tensor) -> Tensor:
        seen.append(argument)
        return 2 * argument

    replayed = Replayed(doubled)
    arguments = [torch.ones(2), torch.arange(2), torch.zeros(3)]
    answers = [replayed(argument) for argument in arguments[:2]]
    replayed.forget()
    answers.append(replayed(arguments[2]))
    assert all(argument is given for argument, given in zip(seen, arguments, strict=True))
    assert [answer.tolist() for answer in answers] == [[2, 2], [0, 2], [0, 0, 0]]
