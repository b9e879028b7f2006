"""Scene: VideoMAE fine-tuned (LEYA, section 3.1; Table 1 row 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, Encoder, EncoderOutput
from twominds.encoders.huggingface import (
    backbone_config,
    build_backbone,
    last_hidden_state,
    load_backbone,
    train_top_layers,
)
from twominds.errors import ConfigError
from twominds.features.extractor import normalize_images
from twominds.records import Features, Modality


@dataclass(frozen=True, kw_only=True)
class SceneEncoderConfig:
    """VideoMAE and a linear layer."""

    backbone: str = "scene.videomae_base"
    """Role of a VideoMAE in the bundle."""
    trainable_layers: int | None = None
    """Fine-tune only this many of the last Transformer layers; none given: the whole backbone, as in the paper."""
    backbone_lr_scale: float = 1.0
    """Factor on the backbone's learning rate."""

    def __post_init__(self) -> None:
        if self.trainable_layers is not None and self.trainable_layers < 0:
            raise ConfigError(f"scene.trainable_layers must not be negative, it is {self.trainable_layers}.")
        if self.backbone_lr_scale <= 0:
            raise ConfigError(f"scene.backbone_lr_scale must be positive, it is {self.backbone_lr_scale}.")


class SceneEncoder(Encoder):
    """Frames uint8 [B, T, H, W, 3] -> the average of VideoMAE's output tokens (eq. 1) -> Linear -> logits.

    The embedding is that average, 768 for VideoMAE-Base (86.2 million parameters). Frames are normalised in here.
    """

    modality = Modality.SCENE

    def __init__(
        self,
        config: SceneEncoderConfig,
        *,
        num_classes: int,
        architecture: Architecture,
        backbone: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        self.backbone_lr_scale = config.backbone_lr_scale
        self.backbone = backbone or build_backbone(self.architecture["backbone"])
        train_top_layers(self.backbone, config.trainable_layers)
        self.embedding_dim = int(self.architecture["backbone"]["hidden_size"])
        self.classifier = nn.Linear(self.embedding_dim, num_classes)

    @classmethod
    def pretrained(
        cls, config: SceneEncoderConfig, *, num_classes: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`."""
        del example
        backbone = load_backbone(store, config.backbone)
        architecture = {"backbone": backbone_config(backbone)}
        return cls(config, num_classes=num_classes, architecture=architecture, backbone=backbone)

    @classmethod
    def from_architecture(cls, config: SceneEncoderConfig, *, num_classes: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_classes=num_classes, architecture=architecture)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`frames`: uint8 [B, T, H, W, 3]."""
        return {"frames": torch.from_numpy(cast(npt.NDArray[np.uint8], np.stack(values)))}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        tokens = last_hidden_state(self.backbone, pixel_values=normalize_images(inputs["frames"]))
        embedding = tokens.mean(dim=1)
        return EncoderOutput(logits=self.classifier(embedding), embedding=embedding)
