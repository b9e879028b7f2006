"""Face, otherwise: raw embeddings of every face crop by ViT or CLIP (LEYA, section 4.2), frozen, one row per frame."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError, ConfigError
from twominds.features.extractor import RGB, normalize_images
from twominds.features.face import CropFeatures
from twominds.features.loading import load_pretrained


@dataclass(frozen=True, kw_only=True)
class FaceFramesFeaturesConfig:
    """The frozen image model."""

    kind: Literal["frames"] = "frames"
    """Tells it from the other face features in JSON."""
    backbone: str = "face.vit_base"
    """Role of a ViT or a CLIP in the bundle (`face.clip_vit_b32`)."""
    max_batch_frames: int = 32
    """Crops in one forward pass; bounds memory (about 0.01 GB a crop for ViT-Base)."""

    def __post_init__(self) -> None:
        if self.max_batch_frames < 1:
            raise ConfigError(f"face.max_batch_frames must be at least 1, not {self.max_batch_frames}.")


_HALF: RGB = (0.5, 0.5, 0.5)
_STATISTICS: dict[str, tuple[RGB, RGB]] = {
    "vit": (_HALF, _HALF),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and standard deviation of each model's own training, by the `model_type` of its config.json."""


class FaceFramesFeatures(CropFeatures):
    """ViT or CLIP on face crops, which of the two says the role's config.json.

    ViT (Dosovitskiy et al. 2021): the [CLS] token after the final LayerNorm, D = 768. CLIP (Radford et al. 2021): the
    image embedding, projected and not normalised to unit length, D = 512. Crops must be of the size that the model was
    trained on, 224 x 224 in the published ones; they are normalised with the model's own statistics.
    """

    def __init__(
        self, config: FaceFramesFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        super().__init__(config.max_batch_frames, device, with_pooled)
        self.config = config
        folder = store.folder(config.backbone)
        self._kind = str(store.config(config.backbone).get("model_type"))
        if self._kind not in _STATISTICS:
            raise BackboneError(f"{folder}/config.json is not of a ViT or CLIP: {config.backbone} can't embed crops.")
        self._mean, self._std = _STATISTICS[self._kind]
        self._model = _load(self._kind, store, config.backbone, device)
        self.image_size_px = int(cast(Any, self._model).config.image_size)

    def embed_crops(self, crops: Tensor) -> Tensor:
        """See `CropFeatures.embed_crops`.

        Raises:
            ConfigError: the crops are not as large as the backbone takes.
        """
        if tuple(crops.shape[1:3]) != (self.image_size_px, self.image_size_px):
            raise ConfigError(
                f"{self.config.backbone} takes face crops of {self.image_size_px} px, these have {crops.shape[1]} px: "
                f"set media.face_size_px to {self.image_size_px}."
            )
        output = cast(Any, self._model)(pixel_values=normalize_images(crops, self._mean, self._std))
        return output.image_embeds if self._kind == "clip" else output.last_hidden_state[:, 0]


def _load(kind: str, store: BackboneStore, role: str, device: str) -> nn.Module:
    from transformers import CLIPVisionModelWithProjection, ViTModel

    if kind == "clip":  # of a checkpoint with both towers
        return load_pretrained(CLIPVisionModelWithProjection, store, role, device=device)
    # The published checkpoint is a classifier's, which has no pooler.
    return load_pretrained(ViTModel, store, role, device=device, add_pooling_layer=False)
