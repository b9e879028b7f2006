"""What `embed` refuses before it starts; the jobs' end-to-end tests run it."""

import pytest

from twominds.artifacts import Card, to_json
from twominds.errors import ConfigError
from twominds.media.reader import MediaConfig
from twominds.pipelines.embed import check_scene_fit
from twominds.records import Modality
from twominds.results.about import About
from twominds.tasks import AH_VIDEO

SQUEEZED, CROPPED = MediaConfig(scene_fit="squeeze"), MediaConfig(scene_fit="crop")


def card(media: MediaConfig) -> Card:
    return Card(kind="encoder", task=AH_VIDEO, recipe="leya", config={"media": to_json(media)})


def features(media: MediaConfig) -> About:
    return About(recipe="leya", corpus="/c", fingerprint="", models="/m", media=media)


def test_an_encoder_of_cropped_frames_takes_no_squeezed_ones() -> None:
    with pytest.raises(ConfigError, match=r"square by `crop`, .* have `squeeze`.* --scene-fit crop`"):
        check_scene_fit(Modality.SCENE, card(CROPPED), features(SQUEEZED))
    with pytest.raises(ConfigError, match="--scene-fit squeeze`"):
        check_scene_fit(Modality.SCENE, card(SQUEEZED), features(CROPPED))


def test_the_same_frames_and_other_modalities_pass() -> None:
    check_scene_fit(Modality.SCENE, card(CROPPED), features(CROPPED))
    check_scene_fit(Modality.AUDIO, card(CROPPED), features(SQUEEZED))
    check_scene_fit(Modality.SCENE, Card(kind="encoder", task=AH_VIDEO, recipe="leya", config={}), features(CROPPED))
