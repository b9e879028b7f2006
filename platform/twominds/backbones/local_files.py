"""From a file on this machine into a bundle, for models that are on no hub."""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor

from twominds.backbones.bundle import BundleEntry, add_to_bundle
from twominds.backbones.catalogue import catalogue_entry
from twominds.backbones.descriptors import DESCRIPTORS, import_descriptor
from twominds.backbones.state_dicts import read_state_dict, write_state_dict
from twominds.backbones.torchvision_names import timm_names
from twominds.errors import BackboneError

_HEADS = ("classifier.", "emotion_head.", "va_head.")
"""How the names of heads begin in timm, torchvision and LEYA's published face backbone; heads are left out."""


def import_file(uri: str, role: str, file: Path, *, staging: Path) -> BundleEntry:
    """Check a local file and put it into the bundle at `uri` as `role`; the file itself is left as it is.

    Raises:
        BackboneError: the file does not fit the role, or the role is not one that a single file makes.
    """
    licence = catalogue_entry(role).licence
    if role not in _IMPORTERS:
        raise BackboneError(f"{role} can't be imported from one file. These can: {', '.join(_IMPORTERS)}.")
    if not file.is_file():
        raise BackboneError(f"No file at {file}.")
    staging.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{role}-", dir=staging))  # its own: another may import the same role
    try:
        _IMPORTERS[role](file, folder)
        entry = BundleEntry(weights="published", hub_id=None, revision=file.name, licence=licence)
        return add_to_bundle(uri, role, folder, entry)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _import_efficientnet(file: Path, folder: Path) -> None:
    """A state dict of `efficientnet_b0`, with timm's names or torchvision's; heads, of whatever, are left out."""
    import timm

    architecture = "efficientnet_b0"
    model = timm.create_model(architecture, num_classes=0)
    expected = cast(dict[str, Tensor], model.state_dict())
    plain = {name.removeprefix("module."): tensor for name, tensor in read_state_dict(file).items()}
    given = {name: tensor for name, tensor in timm_names(plain).items() if not name.startswith(_HEADS)}
    lacking = [name for name in expected if name not in given and not name.endswith("num_batches_tracked")]
    strange = [name for name in given if name not in expected]
    if lacking or strange:
        raise BackboneError(
            f"{file} is not timm's {architecture}: it lacks {len(lacking)} tensors (such as "
            f"{lacking[0] if lacking else '-'}) and has {len(strange)} of another name (such as "
            f"{strange[0] if strange else '-'}). Convert the names first."
        )
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            raise BackboneError(
                f"{file}: {name} has shape {tuple(tensor.shape)}, timm's {architecture} {tuple(expected[name].shape)}."
            )
    write_state_dict(given, folder / "model.safetensors")
    config = {"architecture": architecture, "num_features": 1280, "num_classes": 0}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _import_onnx(file: Path, folder: Path) -> None:
    """An ONNX detector: OpenCV must be able to read it."""
    import cv2

    try:
        cv2.dnn.readNetFromONNX(str(file))
    except cv2.error as error:
        raise BackboneError(f"{file} is no ONNX model that OpenCV can read.") from error
    shutil.copyfile(file, folder / "model.onnx")


_IMPORTERS: dict[str, Callable[[Path, Path], None]] = {
    **{role: partial(import_descriptor, role) for role in DESCRIPTORS},
    "face.emotion_efficientnet_b0": _import_efficientnet,
    "detect.yolo_face": _import_onnx,
    "detect.yunet": _import_onnx,
}
