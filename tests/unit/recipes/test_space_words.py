"""Where a search looks, as words of a command line."""

from dataclasses import replace

import pytest

from twominds.errors import ConfigError
from twominds.recipes.leya import PAPER_CANDIDATE, SPACE, leya
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Choice, LogUniform, Uniform, check_candidate
from twominds.records import Modality

FUSION = leya().fusion


def searched_in(*words: str) -> FusionRecipe:
    return FUSION.searched_in(words)


def test_no_words_change_nothing() -> None:
    assert searched_in() == FUSION


def test_values_and_ranges_take_the_place_of_the_recipes_and_the_rest_stays_as_it_is() -> None:
    fusion = searched_in("num_layers=1,2", "optimizer=sgd,adamw", "learning_rate=1e-4..1e-3", "grad_clip=0.5..5")
    assert fusion.space == {
        **SPACE,
        "num_layers": Choice(values=(1, 2)),
        "optimizer": Choice(values=("sgd", "adamw")),
        "learning_rate": LogUniform(low=1e-4, high=1e-3),
        "grad_clip": Uniform(low=0.5, high=5.0),
    }
    assert list(fusion.space) == list(SPACE), "a sampler draws in this order"
    assert replace(fusion, space=FUSION.space, first_points=FUSION.first_points) == FUSION


def test_a_range_is_logarithmic_where_it_is_said_to_be() -> None:
    words = "dropout=0.1..0.5", "dropout=log:0.1..0.5"
    kinds = [type(searched_in(word).space["dropout"]) for word in words]
    assert kinds == [Uniform, LogUniform]


def test_a_setting_that_the_recipe_does_not_search() -> None:
    fusion = searched_in("batch_size=16,32", "modality_dropout=0..0.3", "momentum=log:0.5..0.9")
    assert fusion.space["batch_size"] == Choice(values=(16, 32))
    assert fusion.space["modality_dropout"] == Uniform(low=0.0, high=0.3)
    assert fusion.space["momentum"] == LogUniform(low=0.5, high=0.9)
    own = {"batch_size": 32, "modality_dropout": 0.0, "momentum": 0.9}  # the recipe's: LEYA's batch, torch's momentum
    assert fusion.first_points == ({**PAPER_CANDIDATE, **own},)


def test_one_value_is_fixed_and_searched_no_more() -> None:
    fusion = searched_in("optimizer=adamw", "use_cls=true", "epochs=8")
    assert set(SPACE) - set(fusion.space) == {"optimizer", "use_cls"}
    assert (fusion.fit.optimizer, fusion.model, fusion.fit.epochs) == ("adamw", replace(FUSION.model, use_cls=True), 8)
    assert fusion.first_points[0].keys() == fusion.space.keys()


def test_the_papers_candidate_is_brought_into_the_space() -> None:
    """It has 6 layers, feed-forward layers 6 times as wide, dropout .45 and LR 9.44e-5 (LEYA, section 4.2)."""
    fusion = searched_in(
        "num_layers=1,2",
        "feedforward_factor=2,5,8",
        "dropout=0.5..0.6",
        "learning_rate=2e-4..1e-3",
        "use_cls=true,false",
    )
    (point,) = fusion.first_points
    near = {"num_layers": 2, "feedforward_factor": 5, "dropout": 0.5, "learning_rate": 2e-4}
    assert point == {**PAPER_CANDIDATE, **near}
    check_candidate(point, fusion.space)


def test_first_points_that_become_one_are_tried_once() -> None:
    points = (PAPER_CANDIDATE, {**PAPER_CANDIDATE, "num_layers": 5})
    fusion = replace(FUSION, first_points=points).searched_in(["num_layers=1,2"])
    assert fusion.first_points == ({**PAPER_CANDIDATE, "num_layers": 2},)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("num_layers", "num_layers=1,2 or"),
        ("num_layers=", "num_layers=1,2 or"),
        ("num_layer=1,2", "'num_layer' to search; is it num_layers"),
        ("zzz=1", r"'zzz' to search\.$"),
        ("num_layers=1..6", "num_layers has no range"),
        ("optimizer=a..b", "optimizer has no range"),
        ("num_layers=two", "num_layers=two: Input should be a valid integer"),
        ("num_layers=1,,2", "num_layers=: Input should be"),
        ("optimizer=adagrad", "optimizer=adagrad: Input should be 'adamw'"),
        ("learning_rate=1e-3..1e-4", "has to go up"),
        ("learning_rate=..1e-4", "learning_rate=: Input should be"),
        ("learning_rate=nan..1", "learning_rate=nan: Input should be a finite number"),
        ("learning_rate=0..1e-4", "begins above 0"),
        ("kind=concat_mlp", "kind=concat_mlp: Input should be 'transformer'"),
        ("dropout=0.5..1.5", "dropout must be"),
        ("num_heads=3,4", "num_heads must be a divisor of hidden_dim"),
    ],
)
def test_a_word_that_is_wrong_is_told(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        searched_in(word)


def test_a_setting_is_given_once_and_something_is_left_to_search() -> None:
    with pytest.raises(ConfigError, match="num_layers is given twice"):
        searched_in("num_layers=1", "num_layers=2")
    with pytest.raises(ConfigError, match="nothing to search"):
        searched_in(*(f"{name}={value}" for name, value in PAPER_CANDIDATE.items()))


def test_values_go_together_where_every_pair_does() -> None:
    assert searched_in("num_heads=3,6", "hidden_dim=96,192").space["num_heads"] == Choice(values=(3, 6))


def test_the_space_of_an_encoder() -> None:
    """Its values may be tuples; a comma in brackets parts none."""
    recipe = leya().with_encoder_search(Modality.TEXT, ["hidden_dims=[64],[64,32]", "optimizer=sgd", "batch_size=8,16"])
    space = recipe.encoder_search(Modality.TEXT).space
    assert space["hidden_dims"] == Choice(values=((64,), (64, 32)))
    assert "optimizer" not in space
    assert recipe.encoder_fits["text"].optimizer == "sgd"
    assert recipe.encoder_candidate(Modality.TEXT)["batch_size"] == 16
    check_candidate(recipe.encoder_candidate(Modality.TEXT), space)
    with pytest.raises(ConfigError, match="not of scene"):
        leya().with_encoder_search(Modality.SCENE, ["learning_rate=1e-4..1e-3"])
