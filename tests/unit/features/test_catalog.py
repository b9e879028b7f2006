import pytest

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.features.catalog import FeaturesConfig, build_extractor
from twominds.features.text import TextFeaturesConfig
from twominds.records import Modality


@pytest.mark.parametrize("modality", list(Modality))
def test_every_modality_has_an_extractor(store: BackboneStore, modality: Modality) -> None:
    assert build_extractor(modality, FeaturesConfig(), store).modality == modality


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
        build_extractor(modality, FeaturesConfig(), empty)
