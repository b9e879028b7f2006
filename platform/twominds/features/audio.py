"""Audio: a hidden state of a frozen wav2vec2 or HuBERT, 50 rows a second (LEYA, section 3.3; HSEmotion, section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.extractor import Precision, autocast, extract_present, present_features
from twominds.features.loading import load_pretrained
from twominds.records import ClipMedia, Features, FloatArray, Modality, Times, View

SAMPLE_RATE_HZ = 16_000
MIN_SAMPLES = 400
"""Receptive field of the convolutions (25 ms): less sound gives no row at all."""


@dataclass(frozen=True, kw_only=True)
class AudioFeaturesConfig:
    """The frozen audio backbone."""

    backbone: str = "audio.wav2vec2_emotion"
    """Role of a wav2vec2 or a HuBERT in the bundle."""
    hidden_state: int | None = 10
    """The hidden state that becomes the features: 0 is the first layer's input, n the output of layer n; None: what the
    whole model gives, after its last layer's own normalisation."""
    window_s: float = 60.0
    """Longer sound goes through in consecutive windows of this length (attention costs its square)."""
    max_batch_s: float = 120.0
    """Seconds of sound, padding included, in one forward pass; bounds memory."""
    precision: Precision = "float32"
    """`bfloat16`: faster where the processor has it, at about 3e-2 relative difference."""

    def __post_init__(self) -> None:
        if self.window_s < 1.0:
            raise ConfigError(f"audio.window_s must be at least 1 second, not {self.window_s}.")
        if self.max_batch_s < self.window_s:
            raise ConfigError(f"audio.max_batch_s ({self.max_batch_s}) must be at least window_s ({self.window_s}).")
        if self.hidden_state is not None and self.hidden_state < 0:
            raise ConfigError(f"audio.hidden_state must not be negative, it is {self.hidden_state}.")


class AudioFeatures:
    """Sound -> `values` float32 [T_a, D] (D = 1024 published); `pooled` [2 * D], if asked for: [mean; std] of the rows.

    As the published feature extractor does, the sound of a clip is brought to zero mean and unit variance first; the
    statistics are those of the whole clip, also where it is cut into windows. A model whose first convolution is
    normalised over time (`feat_extract_norm` is `group`, as in wav2vec2-base) would see the padding of a batch: its
    windows go through one by one.
    """

    view: View = Modality.AUDIO

    def __init__(
        self, config: AudioFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        from transformers import HubertModel, Wav2Vec2Model

        self.config = config
        self.device = device
        self._with_pooled = with_pooled
        kind = HubertModel if store.config(config.backbone).get("model_type") == "hubert" else Wav2Vec2Model
        self._model = cast(nn.Module, load_pretrained(cast(Any, kind), store, config.backbone, device=device))
        settings: Any = self._model.config
        self._stride, self._field = _steps(settings)
        self._one_by_one = settings.feat_extract_norm == "group"
        if not self._one_by_one:
            convolutions = _InPieces(cast(Any, self._model).feature_extractor, settings)
            cast(Any, self._model).feature_extractor = convolutions
        if config.hidden_state is None:
            return
        encoder: Any = self._model.encoder
        layers = encoder.layers
        if config.hidden_state >= len(layers):
            raise ConfigError(
                f"audio.hidden_state is {config.hidden_state}, {config.backbone} has {len(layers)} layers: take a "
                f"smaller one. (After the last layer comes a normalisation that the hidden states lack.)"
            )
        # Hidden state n is what the first n layers make: the others are not needed, nor the normalisation after them.
        encoder.layers = layers[: config.hidden_state]
        if settings.do_stable_layer_norm:
            encoder.layer_norm = nn.Identity()

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`. Sound of less than 25 ms, and sound with NaNs, counts as absent."""
        return extract_present(media, self.view, missing_sound, self._extract)

    def hidden_states(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """Rows of each window, run as one padded and masked batch: [N_i] samples -> float32 [T_i, D]."""
        lengths = torch.tensor([len(window) for window in windows])
        padded = torch.zeros(len(windows), int(lengths.max()))
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = torch.from_numpy(window)
        mask = torch.arange(padded.shape[1])[None, :] < lengths[:, None]
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            seen = None if self._one_by_one else mask.long().to(self.device)  # "group" was trained without one
            output = cast(Any, self._model)(padded.to(self.device), attention_mask=seen)
            rows = cast(Tensor, output.last_hidden_state).float().cpu()
        counts = cast(Tensor, cast(Any, self._model)._get_feat_extract_output_lengths(lengths))
        return [hidden[: int(count)].numpy() for hidden, count in zip(rows, counts, strict=True)]

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        owners: list[int] = []
        windows: list[FloatArray] = []
        for index, clip in enumerate(media):
            for window in _windows(_standardize(cast(FloatArray, clip.audio)), self.config.window_s):
                owners.append(index)
                windows.append(window)
        hidden: dict[int, FloatArray] = {}
        most = 1.0 if self._one_by_one else self.config.max_batch_s * SAMPLE_RATE_HZ
        for batch in _batches([len(window) for window in windows], most):
            hidden.update(zip(batch, self.hidden_states([windows[i] for i in batch]), strict=True))
        rows: list[list[FloatArray]] = [[] for _ in media]
        for index, owner in enumerate(owners):
            rows[owner].append(hidden[index])
        return [
            present_features(
                clip,
                self.view,
                values=values,
                times_s=self._times([len(window) for window in of_clip], clip.audio_start_s),
                rows=values if self._with_pooled else None,
            )
            for clip, of_clip, values in zip(media, rows, map(np.concatenate, rows), strict=True)
        ]

    def _times(self, counts: Sequence[int], start_s: float) -> Times:
        """The middle of the sound that each row saw (before attention), from the rows of each consecutive window."""
        window = _window_samples(self.config.window_s)
        first = [index * window + np.arange(count) * self._stride for index, count in enumerate(counts)]
        return (np.concatenate(first) + self._field / 2) / SAMPLE_RATE_HZ + start_s


class _InPieces(nn.Module):
    """wav2vec2's convolutions over two seconds of sound at a time: the same numbers in less memory and time.

    Where each step is normalised by itself (`feat_extract_norm` is `layer`), a row depends on nothing but its receptive
    field. The first layer's output alone is 6.5 MB for each second of sound.
    """

    _ROWS = 100

    def __init__(self, convolutions: nn.Module, config: Any) -> None:
        super().__init__()
        self._convolutions = convolutions
        self._stride, self._field = _steps(config)

    def forward(self, input_values: Tensor) -> Tensor:
        """[B, N] samples -> [B, D, T]."""
        count = (input_values.shape[1] - self._field) // self._stride + 1
        starts = range(0, count, self._ROWS)
        ends = [(min(start + self._ROWS, count) - 1) * self._stride + self._field for start in starts]
        pieces = [input_values[:, a * self._stride : b] for a, b in zip(starts, ends, strict=True)]
        return torch.cat([self._convolutions(piece) for piece in pieces], dim=-1)


def _steps(config: Any) -> tuple[int, int]:
    """How many samples the convolutions go on by from row to row, and how many each row sees: 320 and 400."""
    step = seen = 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        seen += (kernel - 1) * step
        step *= stride
    return step, seen


def missing_sound(clip: ClipMedia) -> str:
    """Why the sound of a clip that counts as present can't be used after all, or ""."""
    if clip.audio is None:
        return "no sound was decoded"
    if clip.sample_rate_hz != SAMPLE_RATE_HZ:
        return f"the sound is at {clip.sample_rate_hz} Hz, the audio model takes {SAMPLE_RATE_HZ} Hz"
    if len(clip.audio) < MIN_SAMPLES:
        return f"the sound is shorter than {1000 * MIN_SAMPLES // SAMPLE_RATE_HZ} ms"
    return "" if np.isfinite(clip.audio).all() else "the sound has samples that are no numbers"


def _standardize(audio: FloatArray) -> FloatArray:
    """Zero mean and unit variance, with the 1e-7 of Hugging Face's `Wav2Vec2FeatureExtractor`."""
    exact = audio.astype(np.float64)
    return ((exact - exact.mean()) / np.sqrt(exact.var() + 1e-7)).astype(np.float32)


def _windows(audio: FloatArray, window_s: float) -> list[FloatArray]:
    """Consecutive pieces of `window_s`; a rest too short for a single row is left out."""
    size = _window_samples(window_s)
    pieces = [audio[start : start + size] for start in range(0, len(audio), size)]
    return [piece for piece in pieces if len(piece) >= MIN_SAMPLES]


def _window_samples(window_s: float) -> int:
    return int(window_s * SAMPLE_RATE_HZ)


def _batches(lengths: Sequence[int], max_samples: float) -> list[list[int]]:
    """Indices in batches of similar length (little padding) that stay within `max_samples`, padding included."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_samples:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
