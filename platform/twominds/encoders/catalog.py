"""The four encoders by modality, and their settings in one config."""

from dataclasses import dataclass, field

from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.encoders.encoder import Encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.encoders.face_frames import FaceFramesEncoder, FaceFramesEncoderConfig
from twominds.encoders.scene import SceneEncoder, SceneEncoderConfig
from twominds.encoders.text import TextEncoder, TextEncoderConfig
from twominds.records import Modality

AnyEncoderConfig = (
    SceneEncoderConfig
    | FaceEncoderConfig
    | FaceFramesEncoderConfig
    | AudioEncoderConfig
    | TextEncoderConfig
    | ClassicalTextConfig
)


@dataclass(frozen=True, kw_only=True)
class EncodersConfig:
    """Settings of the four unimodal encoders; the defaults are LEYA's main configuration."""

    scene: SceneEncoderConfig = field(default_factory=SceneEncoderConfig)
    """VideoMAE."""
    face: FaceEncoderConfig | FaceFramesEncoderConfig = field(default_factory=FaceEncoderConfig)
    """The MLP over face statistics, or a sequence encoder over frames."""
    audio: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    """Mamba over wav2vec2."""
    text: TextEncoderConfig | ClassicalTextConfig = field(default_factory=TextEncoderConfig)
    """The partly frozen language model, or a conventional classifier."""

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
    FaceFramesEncoderConfig: FaceFramesEncoder,
    AudioEncoderConfig: AudioEncoder,
    TextEncoderConfig: TextEncoder,
    ClassicalTextConfig: ClassicalTextEncoder,
}
"""Encoder class by the class of its config."""
