"""Sound as it is, in rows of equal length: for encoders that train a backbone of their own on stretches of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.audio import SAMPLE_RATE_HZ, missing_sound
from twominds.features.extractor import extract_present, present_features
from twominds.records import ClipMedia, Features, FloatArray, Modality, View


@dataclass(frozen=True, kw_only=True)
class SoundFeaturesConfig:
    """How the sound is cut, and who will hear it."""

    kind: Literal["sound"] = "sound"
    """Tells it from the other audio features in JSON."""
    backbone: str = "audio.hubert_base"
    """Role of what the encoder trains; nothing of it is loaded here."""
    rate_hz: float = 25.0
    """Rows a second, as many as the face is looked at: a stretch of rows is the same stretch of both."""

    def __post_init__(self) -> None:
        if not 1 <= self.rate_hz <= SAMPLE_RATE_HZ or SAMPLE_RATE_HZ % self.rate_hz:
            raise ConfigError(f"audio.rate_hz must divide {SAMPLE_RATE_HZ}, {self.rate_hz} does not.")


class SoundFeatures:
    """Sound -> `values` float32 [T, 16000 / rate_hz] with `times_s` [T]; row k begins k / rate_hz after the beginning.

    Amplitudes are as decoded, in [-1, 1]. There are as many rows as the picture has frames at this rate: there is
    silence where no sound was read, such as before a track that begins late and after `media.max_audio_s`, and what is
    heard before or after the picture is left out. Without a picture there are rows while there is sound.
    """

    view: View = Modality.AUDIO

    def __init__(
        self, config: SoundFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        """Takes what every extractor does.

        Raises:
            ConfigError: pooled features are asked for: of sound as it is there are none.
        """
        del store, device
        if with_pooled:
            raise ConfigError("Sound as it is has no pooled features: leave out --pooled.")
        self.config = config

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`. Sound of less than 25 ms, and sound with NaNs, counts as absent."""
        return extract_present(media, self.view, missing_sound, lambda clips: [self._rows(clip) for clip in clips])

    def _rows(self, clip: ClipMedia) -> Features:
        heard, step = cast("FloatArray", clip.audio), round(SAMPLE_RATE_HZ / self.config.rate_hz)
        begin = round(clip.audio_start_s * SAMPLE_RATE_HZ)
        length = max(math.ceil(round(clip.duration_s * SAMPLE_RATE_HZ, 6)), 1)
        sound = np.zeros(-(-length // step) * step, np.float32)
        end = min(begin + len(heard), len(sound))
        sound[max(begin, 0) : max(end, 0)] = heard[max(-begin, 0) : max(end - begin, 0)]
        rows = sound.reshape(-1, step)
        times_s = (np.arange(len(rows)) + 0.5) * step / SAMPLE_RATE_HZ
        return present_features(clip, self.view, values=rows, times_s=times_s, rows=None)
