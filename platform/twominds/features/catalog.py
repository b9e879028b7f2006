"""The four extractors by modality, and their settings in one config."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twominds.backbones import BackboneStore
from twominds.features.audio import AudioFeatures, AudioFeaturesConfig
from twominds.features.extractor import FeatureExtractor
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.features.face_track import FaceTrackFeatures, FaceTrackFeaturesConfig
from twominds.features.scene import SceneFeatures, SceneFeaturesConfig
from twominds.features.text import TextFeatures, TextFeaturesConfig
from twominds.features.words import WordsFeatures, WordsFeaturesConfig
from twominds.media.reader import MediaConfig
from twominds.records import Modality

AnyFeaturesConfig = (
    SceneFeaturesConfig
    | FaceFeaturesConfig
    | FaceFramesFeaturesConfig
    | FaceTrackFeaturesConfig
    | AudioFeaturesConfig
    | TextFeaturesConfig
    | WordsFeaturesConfig
)


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Settings of the four frozen backbones."""

    scene: SceneFeaturesConfig = field(default_factory=SceneFeaturesConfig)
    """VideoMAE."""
    face: FaceFeaturesConfig | FaceFramesFeaturesConfig | FaceTrackFeaturesConfig = field(
        default_factory=FaceFeaturesConfig
    )
    """EfficientNet-B0 for emotions, or ViT or CLIP, on a few frames; or one of them on every frame."""
    audio: AudioFeaturesConfig = field(default_factory=AudioFeaturesConfig)
    """wav2vec2."""
    text: TextFeaturesConfig | WordsFeaturesConfig = field(default_factory=TextFeaturesConfig)
    """Tokenizer and text encoder, or the bare words."""

    def of(self, modality: Modality) -> AnyFeaturesConfig:
        """The settings of one modality."""
        configs: dict[Modality, AnyFeaturesConfig] = {
            Modality.SCENE: self.scene,
            Modality.FACE: self.face,
            Modality.AUDIO: self.audio,
            Modality.TEXT: self.text,
        }
        return configs[modality]

    def streams(self, modality: Modality) -> bool:
        """Whether the modality's features are made from the video itself (`ClipMedia.video`)."""
        return isinstance(self.of(modality), FaceTrackFeaturesConfig)

    def backbones(self, modality: Modality) -> tuple[str, ...]:
        """Roles of the modality's frozen backbones; none where its features are read off the clip itself."""
        config = self.of(modality)
        return () if isinstance(config, WordsFeaturesConfig) else (config.backbone,)


_EXTRACTORS: dict[type, Callable[[Any, BackboneStore, str, bool], FeatureExtractor]] = {
    SceneFeaturesConfig: SceneFeatures,
    FaceFeaturesConfig: FaceFeatures,
    FaceFramesFeaturesConfig: FaceFramesFeatures,
    AudioFeaturesConfig: AudioFeatures,
    TextFeaturesConfig: TextFeatures,
    WordsFeaturesConfig: WordsFeatures,
}
"""Extractor class by the class of its config."""


def build_extractor(
    modality: Modality,
    config: FeaturesConfig,
    store: BackboneStore,
    device: str = "cpu",
    *,
    pooled: bool,
    media: MediaConfig | None = None,
) -> FeatureExtractor:
    """The modality's extractor, with its backbone loaded where that has something to do.

    Args:
        modality: Whose.
        config: Settings of all.
        store: Where the weights are.
        device: Where it computes.
        pooled: Whether the fusion takes `pooled` features; else none are made.
        media: How the clips are read, for features that read the video themselves; the defaults where it is None.

    Raises:
        BackboneError: the bundle lacks the backbone.
        ConfigError: the backbone does not fit the settings.
    """
    chosen = config.of(modality)
    if isinstance(chosen, FaceTrackFeaturesConfig):
        return FaceTrackFeatures(chosen, store, device, pooled, media=media or MediaConfig())
    return _EXTRACTORS[type(chosen)](chosen, store, device, pooled)
