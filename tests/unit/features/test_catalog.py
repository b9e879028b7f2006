import json

import pytest

from twominds.artifacts import from_json, to_json
from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.features.catalog import FeaturesConfig, build_extractor
from twominds.features.face import FaceFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.records import Modality


@pytest.mark.parametrize("modality", list(Modality))
def test_every_modality_has_an_extractor(store: BackboneStore, modality: Modality) -> None:
    assert build_extractor(modality, FeaturesConfig(), store, with_pooled=False).modality == modality


def test_the_config_chooses_the_extractor(store: BackboneStore) -> None:
    config = FeaturesConfig(face=FaceFramesFeaturesConfig(backbone="face.clip_vit_b32"))
    assert isinstance(build_extractor(Modality.FACE, config, store, with_pooled=False), FaceFramesFeatures)
    assert config.backbones(Modality.FACE) == ("face.clip_vit_b32",)


@pytest.mark.parametrize("face", [FaceFeaturesConfig(max_batch_frames=4), FaceFramesFeaturesConfig(max_batch_frames=4)])
def test_either_kind_of_face_features_survives_json(face: FaceFeaturesConfig | FaceFramesFeaturesConfig) -> None:
    config = FeaturesConfig(face=face)
    back = from_json(FeaturesConfig, json.loads(json.dumps(to_json(config))))
    assert back == config
    assert type(back.face) is type(face)


def test_face_features_from_before_there_were_two_kinds_are_those_of_emotions() -> None:
    old = {"face": {"backbone": "face.emotion_efficientnet_b0", "max_batch_frames": 8}}
    assert from_json(FeaturesConfig, old).face == FaceFeaturesConfig(max_batch_frames=8)


def test_the_config_names_the_backbones() -> None:
    config = FeaturesConfig(text=TextFeaturesConfig(backbone="text.all_minilm"))
    assert [role for modality in Modality for role in config.backbones(modality)] == [
        "scene.videomae_base",
        "face.emotion_efficientnet_b0",
        "audio.wav2vec2_emotion",
        "text.all_minilm",
    ]


@pytest.mark.parametrize("modality", list(Modality))
def test_without_weights_the_job_that_makes_them_is_named(
    tmp_path_factory: pytest.TempPathFactory, modality: Modality
) -> None:
    empty = BackboneStore(uri=str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(BackboneError, match=r"jobs/make_debug_models\.py"):
        build_extractor(modality, FeaturesConfig(), empty, with_pooled=False)
