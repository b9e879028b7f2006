"""Loads a backbone's files with transformers: safetensors only, nothing left at its random start."""

import inspect
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import nn

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError

_Model = TypeVar("_Model", bound=nn.Module)
_ONLY_FOR_TRAINING = {"masked_spec_embed"}


class _Pretrained(Protocol):
    def from_pretrained(self, folder: Path, **options: Any) -> Any: ...


def load_pretrained(
    model: type[_Model], store: BackboneStore, role: str, *, device: str = "cpu", **options: Any
) -> _Model:
    """A transformers model with the role's weights, in eval mode, in float32, without gradients.

    Args:
        model: The model class, such as `VideoMAEModel`; heads that it lacks are left out of the file's weights.
        store: Where the weights are.
        role: The backbone's role.
        device: Where it goes.
        **options: For `from_pretrained`.

    Raises:
        BackboneError: the files are missing, are of another architecture, or lack weights of the model.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for every model in every worker helps nobody
    folder = store.folder(role)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # nor does a table of what is left out on purpose; what is missing is checked below
    try:
        loaded, report = cast(_Pretrained, model).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{folder} can't be loaded as {model.__name__} for {role}: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
    lacking = set(cast(set[str], report["missing_keys"])) - _ONLY_FOR_TRAINING
    if lacking:
        raise BackboneError(
            f"The weights in {folder} lack {len(lacking)} tensors of {model.__name__} (such as {min(lacking)}): they "
            f"are not those of {role}. Fetch or make it again."
        )
    ready = cast(_Model, loaded)
    return ready.requires_grad_(False).eval().to(device)


def load_backbone(store: BackboneStore, role: str, *, device: str = "cpu") -> nn.Module:
    """The role's model (without head and pooler) with its weights, in float32; reads local files alone.

    Raises:
        BackboneError: the bundle lacks the role, or its files are no model that transformers knows.
    """
    model = model_class(load_config(store, role))
    return load_pretrained(model, store, role, device=device, **no_pooler(model))


def load_config(store: BackboneStore, role: str) -> Any:
    """The transformers config of the role's model; its weights stay where they are.

    Raises:
        BackboneError: the bundle lacks the role, or its files are no model that transformers knows.
    """
    from transformers import AutoConfig

    folder = store.folder(role)
    try:
        config = cast(Any, AutoConfig).from_pretrained(folder, local_files_only=True)
        model_class(config)  # there is one
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{folder} is no transformers model that can be loaded for {role}: {error}") from error
    return config


def model_class(config: Any) -> type[nn.Module]:
    """The model without a head of a transformers config."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    return cast(Any, MODEL_MAPPING)[type(config)]


def no_pooler(model: type[nn.Module]) -> dict[str, Any]:
    """No head of ours uses the pooler, and published checkpoints lack its weights; not every model takes the option."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model).parameters else {}
