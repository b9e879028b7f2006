"""EfficientNet-B0 as torchvision names it, under timm's names: the two have the same layers (Tan and Le 2019)."""

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = re.compile(r"(?:features|backbone\.backbone)\.(\d)\.(?:(\d)\.block\.)?(\d\.(?:\d|fc\d)|\d)\.(\w+)")
"""Stage, block, layer and tensor; `backbone.backbone` is how LEYA's published face backbone wraps the features."""

_STEM = {"0": "conv_stem", "1": "bn1"}
_HEAD = {"0": "conv_head", "1": "bn2"}
_SEPARABLE = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
_INVERTED = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with torchvision's names replaced by timm's; every other name stays."""
    return {_timm_name(name): tensor for name, tensor in state.items()}


def _timm_name(name: str) -> str:
    found = _LAYER.fullmatch(name)
    if found is None:
        return name
    stage, block, layer, tensor = found.groups()
    if block is None:
        layers = {"0": _STEM, "8": _HEAD}.get(stage, {})
        return f"{layers[layer]}.{tensor}" if layer in layers else name
    layers = _SEPARABLE if stage == "1" else _INVERTED
    return f"blocks.{int(stage) - 1}.{block}.{layers[layer]}.{tensor}" if layer in layers else name
