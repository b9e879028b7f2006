"""The extractors and their settings, by view."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twominds.artifacts import config_from_json
from twominds.backbones import BackboneStore
from twominds.features.audio import AudioFeatures, AudioFeaturesConfig
from twominds.features.extractor import FeatureExtractor
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.features.face_descriptor import FaceDescriptorFeatures, FaceDescriptorFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.features.face_images import FaceImagesFeatures, FaceImagesFeaturesConfig
from twominds.features.face_track import FaceTrackFeatures, FaceTrackFeaturesConfig
from twominds.features.given import GivenVectors, GivenVectorsConfig
from twominds.features.scene import SceneFeatures, SceneFeaturesConfig
from twominds.features.sentence import SentenceFeatures, SentenceFeaturesConfig
from twominds.features.sound import SoundFeatures, SoundFeaturesConfig
from twominds.features.text import TextFeatures, TextFeaturesConfig
from twominds.features.text_rows import TextRowsFeatures, TextRowsFeaturesConfig
from twominds.features.words import WordsFeatures, WordsFeaturesConfig
from twominds.media.reader import MediaConfig
from twominds.records import Modality, View

AnyFeaturesConfig = (
    SceneFeaturesConfig
    | FaceFeaturesConfig
    | FaceFramesFeaturesConfig
    | FaceDescriptorFeaturesConfig
    | FaceTrackFeaturesConfig
    | FaceImagesFeaturesConfig
    | AudioFeaturesConfig
    | SoundFeaturesConfig
    | TextFeaturesConfig
    | TextRowsFeaturesConfig
    | SentenceFeaturesConfig
    | WordsFeaturesConfig
    | GivenVectorsConfig
)


FeaturesConfig = Mapping[View, AnyFeaturesConfig]
"""Settings of the frozen backbones by view."""

_CONFIGS: Mapping[Modality, tuple[type[AnyFeaturesConfig], ...]] = {
    Modality.SCENE: (SceneFeaturesConfig, GivenVectorsConfig),
    Modality.FACE: (
        FaceFeaturesConfig,
        FaceFramesFeaturesConfig,
        FaceDescriptorFeaturesConfig,
        FaceTrackFeaturesConfig,
        FaceImagesFeaturesConfig,
        GivenVectorsConfig,
    ),
    Modality.AUDIO: (AudioFeaturesConfig, SoundFeaturesConfig, GivenVectorsConfig),
    Modality.TEXT: (
        TextFeaturesConfig,
        TextRowsFeaturesConfig,
        SentenceFeaturesConfig,
        WordsFeaturesConfig,
        GivenVectorsConfig,
    ),
}
"""The classes of settings that a view of each modality may have; JSON that does not say its kind is of the first."""


def features_from_json(value: Mapping[str, Any]) -> dict[View, AnyFeaturesConfig]:
    """Settings by view back from `to_json`.

    Raises:
        ArtifactError: there is no such view or kind, or a setting is not one of it.
    """
    return {view: config_from_json(_CONFIGS, view, of_view) for view, of_view in value.items()}


def backbones_of(config: AnyFeaturesConfig) -> tuple[str, ...]:
    """Roles of a view's frozen backbones; none where its features are read off the clip itself."""
    return () if isinstance(config, WordsFeaturesConfig | GivenVectorsConfig) else (config.backbone,)


def is_given(config: AnyFeaturesConfig) -> bool:
    """Whether the view's features come with the clips: nothing of the file is decoded for it."""
    return isinstance(config, GivenVectorsConfig)


def given_names(config: FeaturesConfig, views: Iterable[View]) -> list[str]:
    """Names of the vectors (`Clip.vectors`) that the views look at."""
    return [of_view.name for view in views if isinstance(of_view := config[view], GivenVectorsConfig)]


def streams(config: AnyFeaturesConfig) -> bool:
    """Whether the view's features are made from the video itself (`ClipMedia.video`)."""
    return isinstance(config, FaceTrackFeaturesConfig | FaceImagesFeaturesConfig)


_EXTRACTORS: dict[type, Callable[[Any, BackboneStore, str, bool], FeatureExtractor]] = {
    SceneFeaturesConfig: SceneFeatures,
    FaceFeaturesConfig: FaceFeatures,
    FaceFramesFeaturesConfig: FaceFramesFeatures,
    FaceDescriptorFeaturesConfig: FaceDescriptorFeatures,
    AudioFeaturesConfig: AudioFeatures,
    SoundFeaturesConfig: SoundFeatures,
    TextFeaturesConfig: TextFeatures,
    TextRowsFeaturesConfig: TextRowsFeatures,
    SentenceFeaturesConfig: SentenceFeatures,
    WordsFeaturesConfig: WordsFeatures,
    GivenVectorsConfig: GivenVectors,
}
"""Extractor class by the class of its config."""


def build_extractor(
    view: View,
    config: AnyFeaturesConfig,
    store: BackboneStore,
    device: str = "cpu",
    *,
    with_pooled: bool,
    media: MediaConfig | None = None,
) -> FeatureExtractor:
    """A view's extractor, with its backbone loaded where that has something to do.

    Args:
        view: The view; the features are called after it.
        config: The view's settings.
        store: Where the weights are.
        device: Where it computes.
        with_pooled: Whether the fusion takes `pooled` features; else none are made.
        media: How the clips are read, for features that read the video themselves; the defaults where it is None.

    Raises:
        BackboneError: the bundle lacks the backbone.
        ConfigError: the backbone does not fit the settings.
    """
    extractor: FeatureExtractor
    if isinstance(config, FaceTrackFeaturesConfig):
        extractor = FaceTrackFeatures(config, store, device, with_pooled, media=media or MediaConfig())
    elif isinstance(config, FaceImagesFeaturesConfig):
        extractor = FaceImagesFeatures(config, store, device, with_pooled, media=media or MediaConfig())
    else:
        extractor = _EXTRACTORS[type(config)](config, store, device, with_pooled)
    extractor.view = view
    return extractor
