"""A backbone, a projection of its tokens, attention pooling: one branch of ConflictAwareAH (sections 3.2 to 3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.encoders.encoder import EncoderOutput
from twominds.encoders.huggingface import FineTunedEncoder, last_hidden_state, transformer_layers
from twominds.encoders.padding import pad_sequences
from twominds.encoders.pooling import AttentionPooling
from twominds.errors import ConfigError
from twominds.features.extractor import normalize_images
from twominds.features.face_images import decoded
from twominds.records import Modality, modality_of


@dataclass(frozen=True, kw_only=True)
class AttendedEncoderConfig:
    """A backbone that is frozen but for its last layers, and what is trained above it."""

    kind: Literal["attended"] = "attended"
    """Tells it from the other encoders in JSON."""
    backbone: str
    """Role of a VideoMAE (frames), of a wav2vec2 or HuBERT (sound), or of a language model (token ids)."""
    trainable_layers: int = 0
    """The last Transformer layers that are fine-tuned (checkpoint A: 2); 0: none (checkpoint B)."""
    backbone_lr_scale: float = 0.1
    """Factor on the learning rate of those layers."""
    frozen_in_training_mode: bool = False
    """What is frozen drops values, layers and stretches of sound (SpecAugment) in training, as in the public code,
    though it learns nothing from that."""
    window_rows: int = 0
    """Rows of faces or of sound that are seen, one after another; 0: all, as of words. Of faces the backbone takes a
    number of its own."""
    dim: int | None = None
    """Length of the embedding; None: that of the backbone's tokens."""
    head_dim: int = 512
    """Hidden units of the head."""
    dropout: float = 0.3
    """In the head."""
    one_logit: bool = True
    """For two classes: one number z that says how much the second is preferred, as logits (0, z)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.trainable_layers < 0:
            raise ConfigError(f"trainable_layers must not be negative, it is {self.trainable_layers}.")
        if self.backbone_lr_scale <= 0:
            raise ConfigError(f"backbone_lr_scale must be positive, it is {self.backbone_lr_scale}.")
        if self.window_rows < 0:
            raise ConfigError(f"window_rows must not be negative, it is {self.window_rows}.")
        if self.head_dim < 1 or (self.dim or 1) < 1:
            raise ConfigError(f"head_dim and dim must be at least 1, they are {self.head_dim} and {self.dim}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), it is {self.dropout}.")


class AttendedEncoder(FineTunedEncoder[AttendedEncoderConfig]):
    """Tokens of a backbone -> Linear -> attention pooling: the embedding; LayerNorm, Linear, GELU, Linear: the logits.

    It takes pictures (`features.face_images`), sound as it is (`features.sound`, not standardised) or token ids int64
    [L] of clips (special tokens are pooled, too). Where there are fewer pictures than it takes, the last is repeated.
    Sounds of one length go through the backbone together, others apart: HuBERT-base normalises over time, so that
    padding would be heard.
    """

    modality: ClassVar[Modality] = Modality.TEXT
    """Until it is built for a view: it takes any."""

    def add_head(self, config: AttendedEncoderConfig, width: int, num_outputs: int) -> None:
        """See `FineTunedEncoder.add_head`.

        Raises:
            ConfigError: one logit for more than two classes.
        """
        if config.one_logit and num_outputs != 2:
            raise ConfigError(f"one_logit is for two classes, not for {num_outputs} outputs.")
        self.config = config
        self.embedding_dim = dim = config.dim or width
        self.window_rows = config.window_rows
        self.pad_token_id = int(self.architecture["backbone"].get("pad_token_id") or 0)
        self.projection = nn.Linear(width, dim)
        self.pooling = AttentionPooling(dim)
        self.classifier = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, config.head_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.head_dim, 1 if config.one_logit else num_outputs),
        )

    def train(self, mode: bool = True) -> Self:
        """Training mode of what learns; what is frozen answers as it does afterwards (`frozen_in_training_mode`)."""
        super().train(mode)
        if mode and not self.config.frozen_in_training_mode:
            self.backbone.eval()
            layers = transformer_layers(self.backbone)
            for layer in layers[len(layers) - self.config.trainable_layers :]:
                layer.train()
        return self

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`frames`; or `sound` with the `samples` [B] of each; or `input_ids` with their `mask`."""
        match modality_of(self.view):
            case Modality.SCENE | Modality.FACE:
                size_px = int(self.architecture["backbone"]["image_size"])
                pictures = [decoded(first_rows(rows, self.window_rows), size_px) for rows in values]
                return {"frames": torch.from_numpy(np.stack(pictures))}
            case Modality.AUDIO:
                sounds = [rows[: self.window_rows or None].ravel() for rows in values]
                return {"sound": pad_sequences(sounds)[0], "samples": torch.tensor([len(sound) for sound in sounds])}
            case _:
                # RoBERTa numbers positions by which ids are padding, so it must be the right one.
                padded, mask = pad_sequences(values, self.pad_token_id)
                return {"input_ids": padded, "mask": mask}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        tokens, mask = self._tokens(inputs)
        embedding = self.pooling(self.projection(tokens), mask)
        logits = self.classifier(embedding)
        return EncoderOutput(logits=F.pad(logits, (1, 0)) if self.config.one_logit else logits, embedding=embedding)

    def _tokens(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the backbone makes of a batch [B, T, D], and bool [B, T]: which of it is there."""
        if "frames" in inputs:
            tokens = last_hidden_state(self.backbone, pixel_values=normalize_images(inputs["frames"]))
            return tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        if "input_ids" in inputs:
            mask = inputs["mask"]
            return last_hidden_state(self.backbone, input_ids=inputs["input_ids"], attention_mask=mask.long()), mask
        return self._sound_tokens(inputs["sound"], inputs["samples"])

    def _sound_tokens(self, sound: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        rows: dict[int, Tensor] = {}
        for length in cast("list[int]", samples.unique().tolist()):
            alike = cast("list[int]", (samples == length).nonzero().flatten().tolist())
            rows |= zip(alike, last_hidden_state(self.backbone, input_values=sound[alike, :length]), strict=True)
        lengths = torch.tensor([len(rows[i]) for i in range(len(samples))], device=sound.device)
        tokens = nn.utils.rnn.pad_sequence([rows[i] for i in range(len(samples))], batch_first=True)
        return tokens, torch.arange(tokens.shape[1], device=sound.device) < lengths[:, None]


def first_rows(rows: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """The first `count` rows (0: all), the last one repeated where there are fewer."""
    return rows[np.minimum(np.arange(count or len(rows)), len(rows) - 1)]
