"""Transformers backbones inside trained encoders: loaded with weights, rebuilt without, partly frozen."""

import json
from abc import abstractmethod
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, Encoder
from twominds.errors import BackboneError, ConfigError
from twominds.features.loading import load_backbone, model_class, no_pooler
from twominds.records import Features

_NOT_ARCHITECTURE = {"_name_or_path", "architectures", "dtype", "transformers_version", "problem_type"}


class FineTuning(Protocol):
    """What the config of every encoder with a transformers backbone says."""

    @property
    def backbone(self) -> str:
        """Role in the bundle."""
        ...

    @property
    def trainable_layers(self) -> int | None:
        """The last Transformer layers that are fine-tuned; None: the whole backbone."""
        ...

    @property
    def backbone_lr_scale(self) -> float:
        """Factor on the backbone's learning rate."""
        ...


ConfigT = TypeVar("ConfigT", bound=FineTuning)


class FineTunedEncoder(Encoder, Generic[ConfigT]):
    """A transformers backbone, partly frozen, under a head of the subclass's."""

    def __init__(
        self, config: ConfigT, *, num_outputs: int, architecture: Architecture, backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        self.backbone_lr_scale = config.backbone_lr_scale
        self.backbone = backbone or build_backbone(self.architecture["backbone"])
        train_top_layers(self.backbone, config.trainable_layers)
        self.add_head(config, int(self.architecture["backbone"]["hidden_size"]), num_outputs)

    @abstractmethod
    def add_head(self, config: ConfigT, width: int, num_outputs: int) -> None:
        """Make the layers above the backbone, whose tokens have `width` values, and set `embedding_dim`."""

    @classmethod
    def pretrained(cls, config: ConfigT, *, num_outputs: int, store: BackboneStore, example: Features) -> Self:
        """See `Encoder.pretrained`."""
        del example
        backbone = load_backbone(store, config.backbone)
        architecture = {"backbone": backbone_config(backbone)}
        return cls(config, num_outputs=num_outputs, architecture=architecture, backbone=backbone)

    @classmethod
    def from_architecture(cls, config: ConfigT, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)


def build_backbone(config: dict[str, Any]) -> nn.Module:
    """The model that `backbone_config` described, its weights unset: drawing them takes seconds for nothing."""
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    hf_config = cast(Any, AutoConfig).for_model(**config)
    model = model_class(hf_config)
    with no_init_weights():
        return cast(Any, model)._from_config(hf_config, dtype=torch.float32, **no_pooler(model))


def backbone_config(backbone: nn.Module) -> dict[str, Any]:
    """A transformers model's architecture as JSON values, free of paths and versions."""
    config: dict[str, Any] = json.loads(cast(Any, backbone).config.to_json_string(use_diff=False))
    return {name: value for name, value in config.items() if name not in _NOT_ARCHITECTURE}


def train_top_layers(backbone: nn.Module, count: int | None) -> None:
    """Leave only the last `count` Transformer layers trainable (None: everything); embeddings are frozen.

    Raises:
        ConfigError: the backbone has fewer layers.
    """
    backbone.requires_grad_(count is None)
    if count:
        layers = transformer_layers(backbone)
        if count > len(layers):
            raise ConfigError(f"trainable_layers is {count}, but the backbone has only {len(layers)} layers.")
        for layer in layers[-count:]:
            layer.requires_grad_(True)


def transformer_layers(backbone: nn.Module) -> list[nn.Module]:
    """The Transformer layers, from the input up."""
    count = int(cast(Any, backbone).config.num_hidden_layers)
    for module in reversed([*backbone.modules()]):  # before them, sound has convolutions, which may be as many
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise BackboneError(f"{type(backbone).__name__} has no list of {count} Transformer layers.")


def below_top_layers(backbone: nn.Module, count: int, **inputs: Tensor) -> Tensor:
    """Tokens [B, tokens, D] that the last `count` Transformer layers are given.

    Heard at the first of them that runs: in training HuBERT leaves out layers now and then.
    """
    heard: list[Tensor] = []

    def hear(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        heard.append(cast(Tensor, given[0] if given else named["hidden_states"]))

    hooks = [layer.register_forward_pre_hook(hear, with_kwargs=True) for layer in transformer_layers(backbone)[-count:]]
    try:
        after = last_hidden_state(backbone, **inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return heard[0] if heard else after


def last_norm(backbone: nn.Module) -> nn.Module | None:
    """What normalises the tokens of the last Transformer layer: VideoMAE's and the larger wav2vec2's; else nothing."""
    if getattr(cast(Any, backbone).config, "do_stable_layer_norm", False):
        return cast(nn.Module, cast(Any, backbone).encoder.layer_norm)
    return cast("nn.Module | None", getattr(backbone, "layernorm", None))


def last_hidden_state(backbone: nn.Module, **inputs: Tensor) -> Tensor:
    """Output tokens of a forward pass: [B, tokens, D]."""
    return cast(Tensor, backbone(**inputs).last_hidden_state)
