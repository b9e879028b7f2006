"""The searches of single encoders: LEYA, section 4.2, number by number."""

import pytest

from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.errors import ConfigError
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.leya import leya
from twominds.recipes.leya_searches import FACE_SEARCH, HEAD_SEARCH, text_search
from twominds.recipes.space import Choice, LogUniform, Uniform, check_candidate, grid
from twominds.records import Modality

FACE, TEXT = Modality.FACE, Modality.TEXT


def test_the_grid_of_the_face_has_the_papers_pick_which_is_the_recipes_own() -> None:
    own = leya().encoder_candidate(FACE)
    assert own == {"hidden_dim": 16, "embedding_dim": 256, "learning_rate": 1e-3, "optimizer": "adamw"}
    assert FACE_SEARCH.sampler == "grid"
    points = grid(FACE_SEARCH.space)
    assert own in points
    assert len(points) == FACE_SEARCH.trials == 3 * 3 * 3 * 2, "not the whole grid is tried"


def test_the_head_is_searched_in_the_papers_ranges() -> None:
    dims = HEAD_SEARCH.space["hidden_dims"]
    assert isinstance(dims, Choice)
    widths = [value for value in dims.values if isinstance(value, tuple)]
    assert {len(value) for value in widths} == {1, 2, 3}
    assert {width for value in widths for width in value} == {64, 96, 128}
    assert HEAD_SEARCH.space["dropout"] == Uniform(low=0.0, high=0.3)
    assert HEAD_SEARCH.space["learning_rate"] == LogUniform(low=1e-5, high=0.1)
    assert HEAD_SEARCH.space["optimizer"] == Choice(values=("adamw", "sgd"))
    assert (leya().encoder_fits["text"].batch_size, leya().encoder_fits["text"].epochs) == (16, 20)


@pytest.mark.parametrize(
    ("name", "of_the_classifier"),
    [
        ("leya/04", {"c"}),
        ("leya/05", {"trees", "tree_learning_rate", "tree_depth"}),
        ("leya/text-tfidf-lightgbm", {"trees", "tree_learning_rate", "tree_depth", "tree_leaves", "tree_min_clips"}),
    ],
)
def test_what_counts_words_is_searched_in_the_papers_ranges(name: str, of_the_classifier: set[str]) -> None:
    space = find_recipe(name).encoder_search(TEXT).space
    assert space.keys() == {"vocabulary", "ngram_max"} | of_the_classifier
    vocabulary = space["vocabulary"]
    assert isinstance(vocabulary, Choice)
    assert (vocabulary.values[0], vocabulary.values[-1]) == (100, 10_000)
    assert space["ngram_max"] == Choice(values=(1, 2, 3))


def test_a_frozen_language_model_has_no_vocabulary_to_search() -> None:
    frozen = ClassicalTextConfig(representation="cls", backbone="text.all_minilm", classifier="catboost")
    assert text_search(frozen).space.keys() == {"trees", "tree_learning_rate", "tree_depth"}
    assert text_search(TextEncoderConfig()) == HEAD_SEARCH


def test_every_recipes_own_settings_lie_in_its_spaces_and_change_nothing() -> None:
    for name, build in RECIPES.items():
        recipe = build()
        for view, search in recipe.encoder_searches.items():
            own = recipe.encoder_candidate(view)
            assert own.keys() == search.space.keys()
            check_candidate(own, search.space)
            assert recipe.with_encoder_candidate(view, own) == recipe, name


def test_a_candidate_changes_one_encoder_and_its_fit_alone() -> None:
    recipe = leya()
    changed = recipe.with_encoder_candidate(TEXT, {"hidden_dims": (64, 64), "learning_rate": 1e-3})
    assert changed.encoders["text"] == TextEncoderConfig(hidden_dims=(64, 64))
    assert changed.encoder_fits["text"].learning_rate == 1e-3
    assert changed.encoder_fits["text"].optimizer == recipe.encoder_fits["text"].optimizer
    assert changed.encoders["face"] == recipe.encoders["face"]
    assert changed.encoder_fits["face"] == recipe.encoder_fits["face"]


def test_what_is_no_setting_or_has_no_space_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="vocabulary"):
        leya().with_encoder_candidate(TEXT, {"vocabulary": 100})
    with pytest.raises(ConfigError, match="of face, text, not of scene"):
        leya().encoder_search(Modality.SCENE)
    with pytest.raises(ConfigError, match="not of face"):
        find_recipe("leya/face-vit-mamba").encoder_search(FACE)


def test_a_grid_is_every_point_once_and_takes_no_range() -> None:
    space = {"a": Choice(values=(1, 2)), "b": Choice(values=("x", "y"))}
    assert grid(space) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(ConfigError, match="no grid over dropout"):
        grid({**space, "dropout": Uniform(low=0.0, high=0.3)})
