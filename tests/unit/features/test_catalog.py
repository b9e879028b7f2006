import json
from typing import Any

import pytest

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ArtifactError, BackboneError
from twominds.features.catalog import FeaturesConfig, backbones_of, build_extractor, features_from_json
from twominds.features.face import FaceFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.recipes.leya import leya
from twominds.records import Modality


@pytest.mark.parametrize("modality", list(Modality))
def test_every_modality_has_an_extractor(store: BackboneStore, modality: Modality) -> None:
    assert build_extractor(modality, leya().features[modality], store, with_pooled=False).view == modality


def test_the_config_chooses_the_extractor(store: BackboneStore) -> None:
    config = FaceFramesFeaturesConfig(backbone="face.clip_vit_b32")
    assert isinstance(build_extractor(Modality.FACE, config, store, with_pooled=False), FaceFramesFeatures)
    assert backbones_of(config) == ("face.clip_vit_b32",)


@pytest.mark.parametrize("face", [FaceFeaturesConfig(max_batch_frames=4), FaceFramesFeaturesConfig(max_batch_frames=4)])
def test_either_kind_of_face_features_survives_json(face: FaceFeaturesConfig | FaceFramesFeaturesConfig) -> None:
    config: FeaturesConfig = {**leya().features, Modality.FACE: face}
    back = features_from_json(json.loads(json.dumps(to_json(config))))
    assert back == config
    assert type(back[Modality.FACE]) is type(face)


def test_face_features_from_before_there_were_two_kinds_are_those_of_emotions() -> None:
    old = {"face": {"backbone": "face.emotion_efficientnet_b0", "max_batch_frames": 8}}
    assert features_from_json(old)[Modality.FACE] == FaceFeaturesConfig(max_batch_frames=8)


def test_the_config_names_the_backbones() -> None:
    config: FeaturesConfig = {**leya().features, Modality.TEXT: TextFeaturesConfig(backbone="text.all_minilm")}
    assert [role for modality in Modality for role in backbones_of(config[modality])] == [
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
        build_extractor(modality, leya().features[modality], empty, with_pooled=False)


def test_two_views_of_a_modality_survive_json_and_name_their_features(store: BackboneStore) -> None:
    config: FeaturesConfig = {
        "face": FaceFeaturesConfig(),
        "face.clip": FaceFramesFeaturesConfig(backbone="face.clip_vit_b32"),
    }
    assert features_from_json(json.loads(json.dumps(to_json(config)))) == config
    assert build_extractor("face.clip", config["face.clip"], store, with_pooled=False).view == "face.clip"
    assert features_from_json({"face.effnet": {"max_batch_frames": 8}}) == {
        "face.effnet": FaceFeaturesConfig(max_batch_frames=8)
    }


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"pose.openpose": {}}, r"no view 'pose\.openpose'"),
        ({"face.effnet": {"kind": "words"}}, r"face\.effnet are of the kind 'words'"),
        ({"face.effnet": {"frames": 3}}, r"has no face\.effnet\.frames"),
    ],
)
def test_json_of_no_view_or_kind_is_refused(value: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        features_from_json(value)
