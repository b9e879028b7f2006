"""Weights as plain tensors: read without unpickling foreign objects, written as safetensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor

from twominds.errors import BackboneError

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """What a safetensors file or a `torch.save` of plain values and tensors holds, by name, on the CPU.

    A `torch.save` file is read with `weights_only=True`: one that needs code of its own to load is refused.

    Raises:
        BackboneError: the file is neither.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"{path} is no safetensors file ({error}).") from error
    try:
        loaded = cast(object, torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BackboneError(
            f"{path} can't be read as weights alone: it holds Python objects, or is no PyTorch file. Where you trust "
            "it, load it yourself, and save `model.state_dict()` with safetensors."
        ) from error
    if not isinstance(loaded, Mapping):
        raise BackboneError(f"{path} holds no state dict.")
    return cast(Mapping[str, object], loaded)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a `torch.save` of a state dict, on the CPU; see `read_checkpoint`.

    A state dict below `state_dict`, `model_state_dict`, `model_state` or `model` (training checkpoints) is found there.

    Raises:
        BackboneError: the file can't be read, or holds something else than tensors.
    """
    content = read_checkpoint(path)
    while inner := next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None):
        content = cast(Mapping[str, object], inner)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BackboneError(f"{path} holds no state dict.")
    return tensors


def write_state_dict(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors; tensors that share memory are stored each for itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path, {"format": "pt"}
    )
