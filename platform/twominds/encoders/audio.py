"""Audio: Mamba over wav2vec2 features (LEYA, section 3.3; Table 1 row 3)."""

from dataclasses import dataclass

from twominds.encoders.sequence import SequenceEncoder, SequenceEncoderConfig
from twominds.records import Modality


@dataclass(frozen=True, kw_only=True)
class AudioEncoderConfig(SequenceEncoderConfig):
    """A sequence encoder over wav2vec2; the defaults are the paper's main configuration."""

    modality = Modality.AUDIO


class AudioEncoder(SequenceEncoder):
    """The rows of one wav2vec2 layer [B, T, 1024] through a `SequenceEncoder`."""

    modality = Modality.AUDIO
