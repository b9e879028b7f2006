"""The four extractors by modality, and their settings in one config."""

from collections.abc import Callable
from dataclasses import dataclass, field

from twominds.backbones import BackboneStore
from twominds.features.audio import AudioFeatures, AudioFeaturesConfig
from twominds.features.extractor import FeatureExtractor
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.features.scene import SceneFeatures, SceneFeaturesConfig
from twominds.features.text import TextFeatures, TextFeaturesConfig
from twominds.records import Modality

AnyFeaturesConfig = SceneFeaturesConfig | FaceFeaturesConfig | AudioFeaturesConfig | TextFeaturesConfig


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Settings of the four frozen backbones."""

    scene: SceneFeaturesConfig = field(default_factory=SceneFeaturesConfig)
    """VideoMAE."""
    face: FaceFeaturesConfig = field(default_factory=FaceFeaturesConfig)
    """EfficientNet-B0."""
    audio: AudioFeaturesConfig = field(default_factory=AudioFeaturesConfig)
    """wav2vec2."""
    text: TextFeaturesConfig = field(default_factory=TextFeaturesConfig)
    """Tokenizer and text encoder."""

    def of(self, modality: Modality) -> AnyFeaturesConfig:
        """The settings of one modality."""
        configs: dict[Modality, AnyFeaturesConfig] = {
            Modality.SCENE: self.scene,
            Modality.FACE: self.face,
            Modality.AUDIO: self.audio,
            Modality.TEXT: self.text,
        }
        return configs[modality]

    def backbones(self, modality: Modality) -> tuple[str, ...]:
        """Roles of the modality's frozen backbones; none where its features are read off the clip itself."""
        return (self.of(modality).backbone,)


_EXTRACTORS: dict[Modality, Callable[[FeaturesConfig, BackboneStore, str], FeatureExtractor]] = {
    Modality.SCENE: lambda config, store, device: SceneFeatures(config.scene, store, device),
    Modality.FACE: lambda config, store, device: FaceFeatures(config.face, store, device),
    Modality.AUDIO: lambda config, store, device: AudioFeatures(config.audio, store, device),
    Modality.TEXT: lambda config, store, device: TextFeatures(config.text, store, device),
}


def build_extractor(
    modality: Modality, config: FeaturesConfig, store: BackboneStore, device: str = "cpu"
) -> FeatureExtractor:
    """The modality's extractor with its backbone loaded.

    Raises:
        BackboneError: the bundle lacks the backbone.
    """
    return _EXTRACTORS[modality](config, store, device)
