"""The encoders and their settings, by view."""

from collections.abc import Mapping
from typing import Any

from twominds.artifacts import config_from_json
from twominds.encoders.attended import AttendedEncoder, AttendedEncoderConfig
from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.encoders.encoder import Encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.encoders.face_frames import FaceFramesEncoder, FaceFramesEncoderConfig
from twominds.encoders.points import PointEncoder, PointEncoderConfig
from twominds.encoders.scene import SceneEncoder, SceneEncoderConfig
from twominds.encoders.statistics import StatisticsEncoder, StatisticsEncoderConfig
from twominds.encoders.text import TextEncoder, TextEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifier, VectorClassifierConfig
from twominds.records import Modality, View

AnyEncoderConfig = (
    SceneEncoderConfig
    | FaceEncoderConfig
    | FaceFramesEncoderConfig
    | AudioEncoderConfig
    | TextEncoderConfig
    | ClassicalTextConfig
    | PointEncoderConfig
    | StatisticsEncoderConfig
    | VectorClassifierConfig
    | AttendedEncoderConfig
)


EncodersConfig = Mapping[View, AnyEncoderConfig]
"""Settings of the trained encoders by view."""

_OF_ANY = (PointEncoderConfig, StatisticsEncoderConfig, VectorClassifierConfig, AttendedEncoderConfig)
"""Those that take any modality: rows of it, or what a backbone of their own takes."""
_CONFIGS: Mapping[Modality, tuple[type[AnyEncoderConfig], ...]] = {
    Modality.SCENE: (SceneEncoderConfig, *_OF_ANY),
    Modality.FACE: (FaceEncoderConfig, FaceFramesEncoderConfig, *_OF_ANY),
    Modality.AUDIO: (AudioEncoderConfig, *_OF_ANY),
    Modality.TEXT: (TextEncoderConfig, ClassicalTextConfig, *_OF_ANY),
}
"""The classes of settings that a view of each modality may have; JSON that does not say its kind is of the first."""


def encoders_from_json(value: Mapping[str, Any]) -> dict[View, AnyEncoderConfig]:
    """Settings by view back from `to_json`.

    Raises:
        ArtifactError: there is no such view or kind, or a setting is not one of it.
    """
    return {view: config_from_json(_CONFIGS, view, of_view) for view, of_view in value.items()}


ENCODERS: dict[type, type[Encoder]] = {
    SceneEncoderConfig: SceneEncoder,
    FaceEncoderConfig: FaceEncoder,
    FaceFramesEncoderConfig: FaceFramesEncoder,
    AudioEncoderConfig: AudioEncoder,
    TextEncoderConfig: TextEncoder,
    ClassicalTextConfig: ClassicalTextEncoder,
    PointEncoderConfig: PointEncoder,
    StatisticsEncoderConfig: StatisticsEncoder,
    VectorClassifierConfig: VectorClassifier,
    AttendedEncoderConfig: AttendedEncoder,
}
"""Encoder class by the class of its config."""
