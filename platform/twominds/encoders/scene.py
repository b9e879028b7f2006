"""Scene: VideoMAE fine-tuned (LEYA, section 3.1; Table 1 row 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twominds.encoders.encoder import EncoderOutput
from twominds.encoders.huggingface import FineTunedEncoder, last_hidden_state
from twominds.errors import ConfigError
from twominds.features.extractor import normalize_images
from twominds.records import Modality


@dataclass(frozen=True, kw_only=True)
class SceneEncoderConfig:
    """VideoMAE and a linear layer."""

    backbone: str = "scene.videomae_base"
    """Role of a VideoMAE in the bundle."""
    trainable_layers: int | None = None
    """Fine-tune only this many of the last Transformer layers; none given: the whole backbone, as in the paper."""
    backbone_lr_scale: float = 1.0
    """Factor on the backbone's learning rate."""
    head_norm: bool = False
    """A LayerNorm on the average before the linear layer, as in Hugging Face's classifier; the embedding is without."""

    def __post_init__(self) -> None:
        if self.trainable_layers is not None and self.trainable_layers < 0:
            raise ConfigError(f"scene.trainable_layers must not be negative, it is {self.trainable_layers}.")
        if self.backbone_lr_scale <= 0:
            raise ConfigError(f"scene.backbone_lr_scale must be positive, it is {self.backbone_lr_scale}.")


class SceneEncoder(FineTunedEncoder[SceneEncoderConfig]):
    """Frames uint8 [B, T, H, W, 3] -> the average of VideoMAE's output tokens (eq. 1) -> Linear -> logits.

    The embedding is that average, 768 for VideoMAE-Base (86.2 million parameters). Frames are normalised in here.
    """

    modality = Modality.SCENE

    def add_head(self, config: SceneEncoderConfig, width: int, num_outputs: int) -> None:
        """See `FineTunedEncoder.add_head`."""
        self.embedding_dim = width
        self.head_norm = nn.LayerNorm(width) if config.head_norm else nn.Identity()
        self.classifier = nn.Linear(self.embedding_dim, num_outputs)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`frames`: uint8 [B, T, H, W, 3]."""
        return {"frames": torch.from_numpy(cast(npt.NDArray[np.uint8], np.stack(values)))}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        tokens = last_hidden_state(self.backbone, pixel_values=normalize_images(inputs["frames"]))
        embedding = tokens.mean(dim=1)
        return EncoderOutput(logits=self.classifier(self.head_norm(embedding)), embedding=embedding)
