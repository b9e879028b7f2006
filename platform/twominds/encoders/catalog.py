"""The four encoders by modality, and their settings in one config."""

from dataclasses import dataclass, field

from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.encoder import Encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.encoders.scene import SceneEncoder, SceneEncoderConfig
from twominds.encoders.text import TextEncoder, TextEncoderConfig
from twominds.records import Modality

AnyEncoderConfig = SceneEncoderConfig | FaceEncoderConfig | AudioEncoderConfig | TextEncoderConfig


@dataclass(frozen=True, kw_only=True)
class EncodersConfig:
    """Settings of the four unimodal encoders; the defaults are LEYA's main configuration."""

    scene: SceneEncoderConfig = field(default_factory=SceneEncoderConfig)
    """VideoMAE."""
    face: FaceEncoderConfig = field(default_factory=FaceEncoderConfig)
    """The MLP over face statistics."""
    audio: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    """Mamba over wav2vec2."""
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    """The partly frozen language model."""

    def of(self, modality: Modality) -> AnyEncoderConfig:
        """The settings of one modality."""
        configs: dict[Modality, AnyEncoderConfig] = {
            Modality.SCENE: self.scene,
            Modality.FACE: self.face,
            Modality.AUDIO: self.audio,
            Modality.TEXT: self.text,
        }
        return configs[modality]


ENCODERS: dict[type, type[Encoder]] = {
    SceneEncoderConfig: SceneEncoder,
    FaceEncoderConfig: FaceEncoder,
    AudioEncoderConfig: AudioEncoder,
    TextEncoderConfig: TextEncoder,
}
"""Encoder class by the class of its config."""
