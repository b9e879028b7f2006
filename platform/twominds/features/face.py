"""Face: EfficientNet-B0 features of every face crop (LEYA, section 3.2), frozen, one row per frame."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.backbones.efficientnet import build_efficientnet
from twominds.backbones.onnx_files import image_network
from twominds.errors import BackboneError, ConfigError
from twominds.features.extractor import extract_present, normalize_images, present_features
from twominds.records import ByteArray, ClipMedia, Features, FloatArray, Modality, View


@dataclass(frozen=True, kw_only=True)
class FaceFeaturesConfig:
    """The frozen face backbone."""

    kind: Literal["emotion"] = "emotion"
    """Tells it from the other face features in JSON."""
    backbone: str = "face.emotion_efficientnet_b0"
    """Role of an EfficientNet-B0 in the bundle."""
    max_batch_frames: int = 32
    """Crops in one forward pass; bounds memory (about 0.03 GB a crop for the published size)."""

    def __post_init__(self) -> None:
        if self.max_batch_frames < 1:
            raise ConfigError(f"face.max_batch_frames must be at least 1, not {self.max_batch_frames}.")


class CropFeatures(ABC):
    """Face crops -> `values` float32 [F, D], a network per crop; `pooled` [2 * D], if asked for: their statistics."""

    view: View = Modality.FACE

    def __init__(self, max_batch_frames: int, device: str, with_pooled: bool) -> None:
        self.device = device
        self._with_pooled = with_pooled
        self._batch_frames = max_batch_frames

    @abstractmethod
    def embed_crops(self, crops: Tensor) -> Tensor:
        """The frozen network on one batch: uint8 [N, H, W, 3] -> [N, D], both on the device."""

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`."""
        return extract_present(media, self.view, _missing, self._extract)

    def frame_features(self, crops: ByteArray) -> FloatArray:
        """Features of crops: uint8 [N, H, W, 3] -> float32 [N, D], `max_batch_frames` at a time at most."""
        rows: list[FloatArray] = []
        with torch.inference_mode():
            for start in range(0, len(crops), self._batch_frames):
                batch = torch.from_numpy(crops[start : start + self._batch_frames]).to(self.device)
                rows.append(self.embed_crops(batch).float().cpu().numpy())
        return np.concatenate(rows)

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        features: list[Features] = []
        for clip in media:  # a clip's frames are a batch already
            values = self.frame_features(cast(ByteArray, clip.face_crops))
            rows = values if self._with_pooled else None
            features.append(present_features(clip, self.view, values=values, times_s=clip.face_times_s, rows=rows))
        return features


class FaceFeatures(CropFeatures):
    """EfficientNet-B0 on face crops, D = 1280 in the published size.

    A crop is 224 x 224, normalised with ImageNet's statistics; nothing else is done to the features. A backbone made
    for other images (`image_size` in its config.json, tiny debug bundles) gets its crops resized.
    """

    def __init__(
        self, config: FaceFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        super().__init__(config.max_batch_frames, device, with_pooled)
        self.config = config
        model, self._image_size_px = _load(store, config.backbone)
        self._model = image_network(model, self._image_size_px, device)

    def embed_crops(self, crops: Tensor) -> Tensor:
        """See `CropFeatures.embed_crops`."""
        return self._model(normalize_images(resized(crops, self._image_size_px)))


def resized(crops: Tensor, side_px: int) -> Tensor:
    """uint8 [N, H, W, 3] -> uint8 [N, side, side, 3], bilinear and antialiased, as PIL does it."""
    if tuple(crops.shape[1:3]) == (side_px, side_px):
        return crops
    from torchvision.transforms.v2 import functional

    square = cast(Any, functional).resize(crops.movedim(-1, 1), [side_px, side_px], antialias=True)
    return cast(Tensor, square).movedim(1, -1)


def _load(store: BackboneStore, role: str) -> tuple[nn.Module, int]:
    """The model in eval mode, and the side of the images it was made for."""
    folder = store.folder(role)
    config = store.config(role)
    if config.get("architecture") != "efficientnet_b0":
        raise BackboneError(f"{folder}/config.json is not of an efficientnet_b0: {role} can't be built from it.")
    model = build_efficientnet(width=float(config.get("width", 1.0)))
    weights = {
        name: w for name, w in load_file(folder / "model.safetensors").items() if not name.startswith("classifier.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BackboneError(f"The weights in {folder} do not fit EfficientNet-B0: {error}") from error
    return model.requires_grad_(False).eval(), int(config.get("image_size", 224))


def _missing(clip: ClipMedia) -> str:
    return "" if clip.face_crops is not None and len(clip.face_crops) else "no face crops were made"
