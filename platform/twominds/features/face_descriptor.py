"""Face, as HSEmotion sees it: embedding and expression scores of every face crop by one of its descriptors, frozen."""

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.backbones.descriptors import load_descriptor
from twominds.backbones.onnx_files import image_network
from twominds.errors import ConfigError
from twominds.features.extractor import RGB, normalize_images
from twominds.features.face import CropFeatures, resized


@dataclass(frozen=True, kw_only=True)
class FaceDescriptorFeaturesConfig:
    """The frozen descriptor."""

    kind: Literal["descriptor"] = "descriptor"
    """Tells it from the other face features in JSON."""
    backbone: str = "face.emotieffnet_b0"
    """Role of a descriptor in the bundle (`backbones.descriptors.DESCRIPTORS`)."""
    max_batch_frames: int = 32
    """Crops in one forward pass; bounds memory."""

    def __post_init__(self) -> None:
        if self.max_batch_frames < 1:
            raise ConfigError(f"face.max_batch_frames must be at least 1, not {self.max_batch_frames}.")


class FaceDescriptorFeatures(CropFeatures):
    """A descriptor on face crops: rows [F, D + S], the embedding and after it the scores, 8 or 10 (raw, W e + b).

    A crop of another size than the descriptor takes is resized to its square (bilinear, antialiased, as PIL does);
    colours are normalised by the descriptor's own mean and standard deviation.
    """

    def __init__(
        self, config: FaceDescriptorFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        super().__init__(config.max_batch_frames, device, with_pooled)
        self.config = config
        described = store.config(config.backbone)
        self._side_px = int(described["image_size"])
        self._mean, self._std = (cast(RGB, tuple(described[name])) for name in ("mean", "std"))
        model = load_descriptor(store.folder(config.backbone), described)
        self._model = image_network(model, self._side_px, device) if isinstance(model, nn.Module) else model

    def embed_crops(self, crops: Tensor) -> Tensor:
        """Embeddings and scores of one batch of crops: uint8 [N, H, W, 3] -> [N, D + S], both on the device."""
        return self._model(normalize_images(resized(crops, self._side_px), self._mean, self._std))
