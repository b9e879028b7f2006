"""A backbone, a projection of its tokens, attention pooling: one branch of ConflictAwareAH (sections 3.2 to 3.5)."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.encoders.encoder import EncoderOutput
from twominds.encoders.huggingface import (
    FineTunedEncoder,
    below_top_layers,
    last_hidden_state,
    last_norm,
    transformer_layers,
)
from twominds.encoders.pooling import AttentionPooling
from twominds.errors import ConfigError
from twominds.features.audio import SAMPLE_RATE_HZ
from twominds.features.extractor import normalize_images
from twominds.features.face_images import decoded
from twominds.records import Features, Modality, modality_of

_WINDOWS_SEED = 42

_HEARD_AT_ONCE = 30 * SAMPLE_RATE_HZ
"""Samples at most; longer sound goes through the frozen layers in equal parts (attention costs its square)."""


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
    though it learns nothing from that. (There the layers that learn are left out now and then, too; here never. Sound
    that is too short for SpecAugment is heard whole.)"""
    window_rows: int = 0
    """Rows of faces or of sound that are seen, one after another; 0: all, as of words. Of faces the backbone takes a
    number of its own. (The public code has the sound of the frames that are seen; the paper seems to hear the clip.)"""
    words_s: float = 0.0
    """Seconds of the words that are read, from where the stretch of faces and sound begins; 0: the whole transcript.
    It is read whole, too, where nothing is said then, or nobody knows when it was said. (Table 4 reads the chunks of
    the transcript that overlap with the stretch, which are some seconds long.)"""
    windows: int = 1
    """How many stretches of so many rows are looked at where a clip is scored: the first one, or several at random
    places, which are the same share of the way through in all clips (section 4.3: 5)."""
    dim: int | None = None
    """Length of the embedding; None: that of the backbone's tokens."""
    head_dim: int = 512
    """Hidden units of the head."""
    dropout: float = 0.3
    """Dropout probability in the head."""
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
        if self.words_s < 0 or (self.words_s and self.window_rows):
            raise ConfigError(f"words_s must be 0 or more, and 0 of faces and sound, it is {self.words_s}.")
        if self.windows < 1 or (self.windows > 1 and not self.window_rows):
            raise ConfigError(f"windows must be 1, or several of some window_rows, it is {self.windows}.")
        if self.head_dim < 1 or (self.dim or 1) < 1:
            raise ConfigError(f"head_dim and dim must be at least 1, they are {self.head_dim} and {self.dim}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), it is {self.dropout}.")


class AttendedEncoder(FineTunedEncoder[AttendedEncoderConfig]):
    """Tokens of a backbone -> Linear -> attention pooling: the embedding; LayerNorm, Linear, GELU, Linear: the logits.

    It takes pictures (`features.face_images`), sound as it is (`features.sound`, not standardised) or token ids int64
    [L] of clips (special tokens are pooled, too). Where there are fewer pictures than it takes, the last is repeated.
    Clips go through the frozen layers one by one: HuBERT-base normalises over time, so that padding would be heard.
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
        self._kept, self._room_bytes = dict[int, tuple[npt.NDArray[Any], Tensor]](), 0
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

    def keep(self, limit_bytes: int) -> None:
        """Keeps the tokens of clips that come again; see `Encoder.keep`."""
        self._kept, self._room_bytes = {}, limit_bytes

    def stretch(self, item: Features, row: int, time_s: float) -> Features:
        """Cuts the rows that are seen out of faces and sound, and the tokens that are said then out of words.

        The special tokens around the words stay. See `Encoder.stretch`.
        """
        if item.values is None or item.times_s is None or not self.config.words_s:
            return super().stretch(item, row, time_s)
        said = (item.times_s >= time_s) & (item.times_s < time_s + self.config.words_s)
        if not said[1:-1].any():
            return item
        said[[0, -1]] = True
        return replace(item, values=item.values[said], times_s=item.times_s[said])

    def seen(self, item: Features) -> list[Features]:
        """Windows at places that are the same share of the way through in all clips; see `Encoder.seen`."""
        rows, windows = self.config.window_rows, self.config.windows
        last = len(item.values) - rows if rows and item.values is not None else 0
        if windows == 1 or last <= 0:
            return [self.stretch(item, 0, 0.0)]
        starts = (np.random.default_rng(_WINDOWS_SEED).random(windows) * (last + 1)).astype(int)
        return [self.stretch(item, int(start), 0.0) for start in starts]

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`tokens` [B, T, D] that the frozen layers make of each clip by itself, and bool [B, T]: which are there.

        Where the backbone is. What one clip has does not depend on the others, to the bit, nor on what was kept.
        """
        tokens = [self._of_frozen_layers(rows) for rows in values]
        mask = [of_clip.new_ones(len(of_clip), dtype=torch.bool) for of_clip in tokens]
        padded = (nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (tokens, mask))
        return dict(zip(("tokens", "mask"), padded, strict=True))

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        tokens, mask = inputs["tokens"], inputs["mask"]
        tokens = self._through_top_layers(tokens, mask)
        embedding = self.pooling(self.projection(tokens), mask)
        logits = self.classifier(embedding)
        return EncoderOutput(logits=F.pad(logits, (1, 0)) if self.config.one_logit else logits, embedding=embedding)

    def _of_frozen_layers(self, rows: npt.NDArray[Any]) -> Tensor:
        """Tokens [T, D] of one clip below the layers that learn; kept where the same rows come again."""
        drops = self.training and self.config.frozen_in_training_mode
        others = self.training and (self.window_rows or self.config.words_s)  # another stretch every time
        again = self._room_bytes > 0 and not drops and not others
        if again and (found := self._kept.get(id(rows))) is not None and found[0] is rows:
            return found[1]
        tokens = self._frozen_tokens(rows)
        if again and tokens.nbytes <= self._room_bytes:
            self._kept[id(rows)] = rows, tokens  # the rows, too: another's may get their id when they are gone
            self._room_bytes -= tokens.nbytes
        return tokens

    @torch.no_grad()
    def _frozen_tokens(self, rows: npt.NDArray[Any]) -> Tensor:
        match modality_of(self.view):
            case Modality.SCENE | Modality.FACE:
                pictures = decoded(first_rows(rows, self.window_rows), int(self.architecture["backbone"]["image_size"]))
                frames = torch.from_numpy(pictures)[None].to(self.projection.weight.device)
                inputs = {"pixel_values": normalize_images(frames)}
            case Modality.AUDIO:
                heard = rows[: self.window_rows or None].ravel()
                parts = np.array_split(heard, -(-len(heard) // _HEARD_AT_ONCE))
                with self._hearing(min(map(len, parts))):
                    return torch.cat([self._below(input_values=self._one(part)) for part in parts])
            case _:
                ids = self._one(rows)
                inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return self._below(**inputs)

    @contextmanager
    def _hearing(self, samples: int) -> Generator[None]:
        """Turns SpecAugment off for sound that is too short: it masks several tokens at a time, and refuses no more."""
        backbone, config = cast(Any, self.backbone), cast(Any, self.backbone).config
        whole = int(backbone._get_feat_extract_output_lengths(torch.tensor(samples))) <= config.mask_time_length
        before = config.apply_spec_augment
        config.apply_spec_augment = before and not whole
        try:
            yield
        finally:
            config.apply_spec_augment = before

    def _below(self, **inputs: Tensor) -> Tensor:
        """Tokens [T, D] of one clip below the layers that learn."""
        learning = self.config.trainable_layers
        if not learning:
            return last_hidden_state(self.backbone, **inputs)[0]
        return below_top_layers(self.backbone, learning, **inputs)[0]

    def _one(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values))[None].to(self.projection.weight.device)

    def _through_top_layers(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """What the layers that learn make of tokens, and the backbone's last normalisation of that."""
        if not self.config.trainable_layers:
            return tokens
        bias: dict[str, Tensor] = {}
        if not mask.all():  # finite, as no row may turn into NaN; and none where nothing is padding
            bias = {"attention_mask": torch.where(mask, 0.0, torch.finfo(tokens.dtype).min)[:, None, None, :]}
        for layer in transformer_layers(self.backbone)[-self.config.trainable_layers :]:
            output = cast("Tensor | tuple[Tensor, ...]", layer(tokens, **bias))
            tokens = output[0] if isinstance(output, tuple) else output
        norm = last_norm(self.backbone)
        return tokens if norm is None else norm(tokens)


def first_rows(rows: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """The first `count` rows (0: all), the last one repeated where there are fewer."""
    return rows[np.minimum(np.arange(count or len(rows)), len(rows) - 1)]
