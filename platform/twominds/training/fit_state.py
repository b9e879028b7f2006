"""The state of an interrupted training: tensors and numbers, kept as safetensors and JSON."""

import json
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Optimizer
from upath import UPath

from twominds.errors import MissingInputError

_TENSORS = "fit_state.safetensors"
_NUMBERS = "fit_state.json"


@dataclass(frozen=True, kw_only=True)
class FitState:
    """What `fit(resume=...)` takes to go on bit for bit."""

    tensors: dict[str, Tensor]
    """Current weights, best weights and optimizer state, by prefix: `model.`, `best.`, `optimizer.`."""
    numbers: dict[str, Any]
    """Epoch reports, schedule and seed, as JSON."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under one prefix, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def save(self, uri: str) -> None:
        """Write to the folder at `uri`; the numbers last, so that a state without them is not whole."""
        folder = UPath(uri)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _NUMBERS).unlink(missing_ok=True)
        (folder / _TENSORS).write_bytes(safetensors.torch.save(self.tensors))
        (folder / _NUMBERS).write_text(json.dumps(self.numbers))

    @classmethod
    def load(cls, uri: str) -> "FitState":
        """Read what `save` wrote.

        Raises:
            MissingInputError: there is no whole state at `uri`.
        """
        folder = UPath(uri)
        if not (folder / _NUMBERS).exists():
            raise MissingInputError(f"No training state at {uri} to resume from.")
        tensors = safetensors.torch.load((folder / _TENSORS).read_bytes())
        return cls(tensors=tensors, numbers=json.loads((folder / _NUMBERS).read_text()))


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """State of every parameter as `optimizer.<position>.<name>`; plain numbers become float64 scalars."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"optimizer.{position}.{name}": torch.as_tensor(value)
        for position, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, state: FitState) -> None:
    """Put back what `optimizer_tensors` took; learning rates are the schedule's business."""
    restored: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.part("optimizer.").items():
        position, key = name.split(".", 1)
        restored.setdefault(int(position), {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": restored, "param_groups": optimizer.state_dict()["param_groups"]})
