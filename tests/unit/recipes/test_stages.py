"""Orders of training: what is trained in vain or not at all is refused, with a sentence."""

from dataclasses import replace
from typing import Any

import pytest

from twominds.artifacts import from_json, to_json
from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.errors import ConfigError
from twominds.features.words import WordsFeaturesConfig
from twominds.fusion.simple import AttentionSumConfig
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.stages import TrainFusion, TrainJointly, TrainViews, check_stages
from twominds.records import Modality
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT
VIEWS = (FACE, AUDIO)


def jointly(**settings: Any) -> TrainJointly:
    return TrainJointly(fit=FitConfig(), loss=FusionLoss(), **settings)


@pytest.mark.parametrize(
    "stages",
    [
        (TrainViews(), TrainFusion()),
        (TrainViews(views=(AUDIO,)), TrainViews(views=(FACE,)), TrainFusion()),
        (jointly(),),
        (TrainViews(views=(FACE,)), jointly(views=(AUDIO,))),
        (TrainViews(), jointly(start="trained")),
        (TrainViews(), jointly(views=(AUDIO,), start="trained", heads={AUDIO: 0.5})),
    ],
)
def test_orders_that_train_everything(stages: Any) -> None:
    check_stages(stages, VIEWS)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((), "last stage must train the fusion"),
        ((TrainViews(),), "last stage must train the fusion"),
        ((TrainViews(views=(TEXT,)), TrainFusion()), "trains text, but the fusion takes face, audio"),
        ((jointly(views=(TEXT,)),), "trains text"),
        ((jointly(), jointly()), "kind jointly comes before"),
        ((jointly(), TrainFusion()), "kind jointly comes before"),
        ((TrainViews(), TrainFusion(), jointly(start="trained")), "kind fusion comes before"),
        ((TrainViews(), TrainViews(views=(FACE,)), TrainFusion()), "Two stages train face"),
        ((TrainViews(views=(FACE,)), TrainFusion()), "No stage trains audio"),
        ((jointly(views=(FACE,)),), "No stage trains audio"),
        ((jointly(start="trained"),), "none trains audio, face before"),
        ((TrainViews(), jointly()), "audio, face would be trained alone in vain"),
        ((TrainViews(views=(FACE,)), jointly(views=(AUDIO,), heads={FACE: 1.0})), "heads of face"),
    ],
)
def test_other_orders_are_refused(stages: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_stages(stages, VIEWS)


def test_a_head_that_weighs_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0, unlike that of face"):
        jointly(heads={FACE: 0.0})


def test_what_is_trained_alone_and_what_jointly() -> None:
    recipe = find_recipe("simple/joint")
    assert (recipe.alone, recipe.joint) == ((), recipe.stages[0])
    assert find_recipe("leya").alone == find_recipe("leya").views
    joint = {name for name in RECIPES if find_recipe(name).joint}
    assert joint - {"simple/joint"} == {
        name for name in RECIPES if name.startswith("conflict-aware") and "leya" not in name
    }
    first = replace(recipe, stages=(TrainViews(views=(AUDIO,)), jointly(views=(FACE,))))
    assert first.alone == (AUDIO,)
    stage = jointly(views=(FACE,), heads={FACE: 0.5})
    assert from_json(TrainJointly, to_json(stage)) == stage


def test_each_seed_of_each_system_is_a_training() -> None:
    recipe, other = find_recipe("simple/joint"), replace(find_recipe("simple/joint"), name="other")
    several = replace(recipe, fusion=replace(recipe.fusion, seeds=(1, 2)), also=(other,))
    runs = several.runs
    assert [(run.name, run.encoder_seed, run.fusion.seeds) for run in runs] == [
        ("simple/joint", 1, (1,)),
        ("simple/joint", 2, (2,)),
        ("other", 42, (42,)),
    ]
    assert all(run.also == () for run in runs)


def test_a_recipe_that_can_not_be_trained_jointly_is_refused() -> None:
    recipe = find_recipe("simple/joint")
    with pytest.raises(ConfigError, match="takes the models of leya, which is not trained jointly"):
        replace(recipe, also=(find_recipe("leya"),))
    with pytest.raises(ConfigError, match="not `prob` and `none`"):
        replace(recipe, fusion=replace(recipe.fusion, inputs="prob"))
    with pytest.raises(ConfigError, match="not `emb` and `zscore`"):
        replace(recipe, fusion=replace(recipe.fusion, model=AttentionSumConfig(standardize="zscore")))
    with pytest.raises(ConfigError, match="text learns by no gradient"):
        replace(
            recipe,
            fusion=replace(recipe.fusion, views=(FACE, TEXT)),
            features={**recipe.features, TEXT: WordsFeaturesConfig()},
            encoders={**recipe.encoders, TEXT: ClassicalTextConfig()},
            stages=(jointly(),),
        )
    with pytest.raises(ConfigError, match="face learns by no gradient"):
        replace(recipe, encoders={**recipe.encoders, FACE: VectorClassifierConfig()})
