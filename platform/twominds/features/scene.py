"""Scene: the frames themselves, and what a frozen VideoMAE sees in them.

VideoMAE (Tong et al. 2022) as in LEYA, section 3.1: 16 frames of 224 x 224, tubelets of 2 x 16 x 16, so 1568 tokens.
The tokens taken are `VideoMAEModel`'s `last_hidden_state`. In the published checkpoint (`use_mean_pooling: true`)
that is the last block's output without a final LayerNorm, and the LayerNorm which Hugging Face's classifier applies to
their average (`fc_norm`) is not part of it: eq. 1 is the plain average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError, ConfigError
from twominds.features.extractor import Precision, autocast, extract_present, normalize_images, present_features
from twominds.features.loading import load_config, load_pretrained
from twominds.records import ByteArray, ClipMedia, Features, FloatArray, Modality, View


@dataclass(frozen=True, kw_only=True)
class SceneFeaturesConfig:
    """The frozen scene backbone."""

    backbone: str = "scene.videomae_base"
    """Role of a VideoMAE in the bundle."""
    max_batch_clips: int = 4
    """Clips in one forward pass; bounds memory (about 0.1 GB a clip for the published size)."""
    precision: Precision = "float32"
    """`bfloat16`: faster where the processor has it, at about 1e-2 relative difference."""

    def __post_init__(self) -> None:
        if self.max_batch_clips < 1:
            raise ConfigError(f"scene.max_batch_clips must be at least 1, not {self.max_batch_clips}.")


class SceneFeatures:
    """Frames of a clip -> `values` uint8 [16, 224, 224, 3] (unchanged); `pooled` float32 [2 * D], D = 768 published.

    The encoder fine-tunes a backbone of its own, so it needs the frames. `pooled` is [mean; std] over the tokens of the
    frozen backbone, which is loaded and run for them alone.
    """

    view: View = Modality.SCENE

    def __init__(
        self, config: SceneFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        """Load the backbone, or of its files the config alone where nothing is pooled.

        Raises:
            BackboneError: the bundle lacks it, or it is no VideoMAE.
        """
        from transformers import VideoMAEModel

        self.config = config
        self.device = device
        backbone = load_config(store, config.backbone)
        if backbone.model_type != "videomae":
            raise BackboneError(f"{config.backbone} is a {backbone.model_type}: only a VideoMAE sees scenes.")
        self.num_frames, self.image_size_px = int(backbone.num_frames), int(backbone.image_size)
        self._model = load_pretrained(VideoMAEModel, store, config.backbone, device=device) if with_pooled else None

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`.

        Raises:
            ConfigError: the frames are not as many, or not as large, as the backbone takes.
        """
        return extract_present(media, self.view, _missing, self._extract)

    def tokens(self, frames: ByteArray) -> FloatArray:
        """Output tokens of a batch of clips: uint8 [B, T, H, W, 3] -> float32 [B, tokens, D]. Needs the backbone."""
        assert self._model is not None
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            pixels = normalize_images(torch.from_numpy(frames).to(self.device))
            hidden = cast(Tensor, self._model(pixel_values=pixels).last_hidden_state)
        return hidden.float().cpu().numpy()

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        frames = [self._checked(clip) for clip in media]
        tokens: list[FloatArray] | list[None] = [None] * len(media)
        if self._model is not None:
            size = self.config.max_batch_clips
            batches = (np.stack(frames[start : start + size]) for start in range(0, len(frames), size))
            tokens = [of_clip for batch in batches for of_clip in self.tokens(batch)]
        return [
            present_features(clip, self.view, values=values, times_s=clip.scene_times_s, rows=rows)
            for clip, values, rows in zip(media, frames, tokens, strict=True)
        ]

    def _checked(self, clip: ClipMedia) -> ByteArray:
        frames = cast(ByteArray, clip.scene_frames)
        expected = (self.num_frames, self.image_size_px, self.image_size_px, 3)
        if frames.shape != expected:
            raise ConfigError(
                f"The scene backbone takes {self.num_frames} frames of {self.image_size_px} px, a clip has "
                f"{frames.shape[0]} of {frames.shape[1]} px: set media.scene_frames to {self.num_frames}."
            )
        return frames


def _missing(clip: ClipMedia) -> str:
    return "no frames were decoded" if clip.scene_frames is None else ""
