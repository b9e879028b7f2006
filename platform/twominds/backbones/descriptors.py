"""The face descriptors of HSEmotion: networks that were fine-tuned for expressions, as their authors' files have them.

A descriptor gives an embedding e of a face and raw scores W e + b: eight expressions, and in multi-task models valence
and arousal after them. `jobs/fetch_models.py --import-file ROLE=FILE` takes its authors' ONNX file or a state dict; the
bundle then has `config.json` and either `model.safetensors` (network and head) or `model.onnx` (the network, cut before
its head) with `head.safetensors`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds.backbones.efficientnet import build_efficientnet
from twominds.backbones.mobilefacenet import MobileFaceNet
from twominds.backbones.onnx_files import OnnxDescriptor, cut_head
from twominds.backbones.state_dicts import read_state_dict, write_state_dict
from twominds.errors import BackboneError

_Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

EXPRESSIONS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
"""The first eight scores of every descriptor, in their order."""
MULTI_TASK = (*EXPRESSIONS, "valence", "arousal")
"""The scores of multi-task descriptors."""

_IMAGENET: _Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: _Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Architecture = Literal["efficientnet_b0", "efficientnet_b2", "mobilevitv2_150", "mobilefacenet", "ddamfn"]


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What is published of one."""

    architecture: Architecture
    """The network that makes the embedding. DDAMFN is not built here: it comes as an ONNX file."""
    image_px: int
    """Side of the square that a face is resized to."""
    dim: int
    """Length of the embedding."""
    scores: tuple[int, ...]
    """How many scores its files may have."""
    statistics: _Statistics = _IMAGENET
    """Mean and standard deviation of each colour."""


DESCRIPTORS: Mapping[str, Descriptor] = {
    "face.emotieffnet_b0": Descriptor(architecture="efficientnet_b0", image_px=224, dim=1280, scores=(8,)),
    "face.emotieffnet_b0_mtl": Descriptor(architecture="efficientnet_b0", image_px=224, dim=1280, scores=(10,)),
    "face.emotieffnet_b2": Descriptor(architecture="efficientnet_b2", image_px=260, dim=1408, scores=(8,)),
    "face.emotimobilevit_mtl": Descriptor(architecture="mobilevitv2_150", image_px=224, dim=768, scores=(10,)),
    "face.emotimobilefacenet_mtl": Descriptor(
        architecture="mobilefacenet", image_px=112, dim=512, scores=(10,), statistics=_HALF
    ),
    "face.ddamfn": Descriptor(architecture="ddamfn", image_px=112, dim=512, scores=(8,)),
    "face.ddamfn_mtl": Descriptor(architecture="ddamfn", image_px=112, dim=512, scores=(10,)),
}
"""By role. EmotiEffNets are timm's `tf_efficientnet_*_ns` (their notebooks say so), not `efficientnet_*`."""


def _b0(width: float = 1.0) -> nn.Module:
    return build_efficientnet(width=width, tensorflow=True)


def _b2(width: float = 1.0) -> nn.Module:
    return build_efficientnet(width=1.1 * width, depth=1.2, tensorflow=True)


def _mobilevit(variant: str = "mobilevitv2_150") -> nn.Module:
    import timm

    return timm.create_model(variant, num_classes=0)


NETWORKS: Mapping[Architecture, Callable[..., nn.Module]] = {
    "efficientnet_b0": _b0,
    "efficientnet_b2": _b2,
    "mobilevitv2_150": _mobilevit,
    "mobilefacenet": MobileFaceNet,
}
"""How a network is built; arguments (`options` in config.json) make it smaller, for debug bundles."""

_HEADS = ("classifier.0", "classifier", "head.fc", "fc")
"""What the authors' networks call their last layer."""


class DescriptorNetwork(nn.Module):
    """Normalised images [B, 3, H, W] -> [B, D + S]: the embedding, and after it the scores."""

    def __init__(self, network: nn.Module, *, dim: int, scores: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(dim, scores)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images and scores them."""
        embedding = self.network(images)
        return torch.cat([embedding, self.head(embedding)], dim=1)


def load_descriptor(folder: Path, config: Mapping[str, Any]) -> DescriptorNetwork | OnnxDescriptor:
    """The descriptor in a bundle's folder, whose `config.json` is `config`, ready to embed.

    Raises:
        BackboneError: its weights do not fit the network that the config names, or can't be read.
    """
    if (folder / "model.onnx").is_file():
        return OnnxDescriptor(folder)
    model = DescriptorNetwork(
        NETWORKS[cast(Architecture, config["architecture"])](**config.get("options", {})),
        dim=int(config["dim"]),
        scores=int(config["scores"]),
    )
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise BackboneError(f"The weights in {folder} do not fit {config['architecture']}: {error}") from error
    return model.requires_grad_(False).eval()


def import_descriptor(role: str, file: Path, folder: Path) -> None:
    """Puts the authors' file of a role into a bundle's folder: an ONNX file, or a state dict (safetensors or PyTorch).

    Raises:
        BackboneError: it is of another network, or can't be read without running code of its own.
    """
    published = DESCRIPTORS[role]
    if file.suffix == ".onnx":
        weight, bias = cut_head(file, folder / "model.onnx")
        _check_head(weight, file, published)
        write_state_dict({"weight": weight, "bias": bias}, folder / "head.safetensors")
    else:
        weight = _import_state_dict(file, folder, published)
    config = {"architecture": published.architecture, "dim": published.dim, "scores": len(weight)}
    (folder / "config.json").write_text(json.dumps(config | image_config(published), indent=2) + "\n")


def image_config(published: Descriptor, image_px: int = 0) -> dict[str, object]:
    """What `config.json` says of images."""
    mean, std = published.statistics
    return {"image_size": image_px or published.image_px, "mean": mean, "std": std}


def _import_state_dict(file: Path, folder: Path, published: Descriptor) -> Tensor:
    if published.architecture not in NETWORKS:
        raise BackboneError(f"{file} is no ONNX file: of {published.architecture} nothing else can be read.")
    given = {name.removeprefix("module."): tensor for name, tensor in read_state_dict(file).items()}
    head = next((name for name in _HEADS if {f"{name}.weight", f"{name}.bias"} <= set(given)), None)
    if head is None:
        raise BackboneError(f"{file} has no last layer by any of the names {', '.join(_HEADS)}: scores need it.")
    weight, bias = given.pop(f"{head}.weight"), given.pop(f"{head}.bias")
    _check_head(weight, file, published)
    model = DescriptorNetwork(NETWORKS[published.architecture](), dim=published.dim, scores=len(weight))
    try:
        model.network.load_state_dict(given)
    except RuntimeError as error:
        raise BackboneError(f"{file} is not a state dict of {published.architecture}: {error}") from error
    model.head.load_state_dict({"weight": weight, "bias": bias})
    write_state_dict(model.state_dict(), folder / "model.safetensors")
    return weight


def _check_head(weight: Tensor, file: Path, published: Descriptor) -> None:
    if weight.shape[1:] != (published.dim,) or len(weight) not in published.scores:
        wanted = " or ".join(map(str, published.scores))
        raise BackboneError(
            f"{file}: its last layer is of shape {tuple(weight.shape)}, not ({wanted}, {published.dim}), as that of "
            f"{published.architecture} is."
        )
