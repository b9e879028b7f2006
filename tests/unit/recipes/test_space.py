"""Search spaces and the candidates that come out of them."""

import pytest

from twominds.errors import ConfigError
from twominds.recipes.leya import PAPER_CANDIDATE, SPACE, leya
from twominds.recipes.space import Choice, LogUniform, Uniform, Value, check_candidate, grid, size


def test_dimensions_know_what_they_contain() -> None:
    assert Choice(values=(1, "a")).contains("a")
    assert not Choice(values=(1, "a")).contains(2)
    assert Uniform(low=0.5, high=2.0).contains(2.0)
    assert not Uniform(low=0.5, high=2.0).contains("1")
    assert not LogUniform(low=1e-4, high=2e-3).contains(3e-3)


@pytest.mark.parametrize(("value", "nearest"), [(2, 2), (100, 8), (3, 2), (0.1, 1), ("a", 1)])
def test_the_nearest_of_some_numbers(value: Value, nearest: Value) -> None:
    assert Choice(values=(1, 2, 8)).nearest(value) == nearest


def test_the_nearest_of_other_values_and_of_ranges() -> None:
    assert Choice(values=("b", "a")).nearest("a") == "a"
    assert Choice(values=("b", "a")).nearest("c") == "b"
    assert Choice(values=(False, True)).nearest(True) is True
    assert Choice(values=((64,), (64, 64))).nearest((64, 64)) == (64, 64)
    assert Choice(values=((64,), (64, 64))).nearest((96,)) == (64,)
    assert [Uniform(low=0.5, high=2.0).nearest(value) for value in (0.1, 1.5, 3, "a")] == [0.5, 1.5, 2.0, 0.5]
    assert LogUniform(low=1e-4, high=1e-2).nearest(1.0) == 1e-2


def test_how_many_candidates_there_are() -> None:
    choices = {"a": Choice(values=(1, 2, 3)), "b": Choice(values=("x", "y"))}
    assert size(choices) == 6 == len(grid(choices))
    assert size({**choices, "c": Uniform(low=0.0, high=1.0)}) == float("inf")


def test_a_point_outside_of_the_space_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"dropout=0\.9"):
        check_candidate({**PAPER_CANDIDATE, "dropout": 0.9}, SPACE)
    with pytest.raises(ConfigError, match="no value for use_cls"):
        check_candidate({k: v for k, v in PAPER_CANDIDATE.items() if k != "use_cls"}, SPACE)


def test_the_papers_configuration_is_in_the_space_and_is_the_recipes_own() -> None:
    """LEYA, section 4.2, number by number."""
    check_candidate(PAPER_CANDIDATE, SPACE)
    fusion = leya().fusion
    assert fusion.with_candidate(PAPER_CANDIDATE) == fusion
    assert (fusion.model.hidden_dim, fusion.model.dropout) == (128, 0.45)
    assert (fusion.fit.optimizer, fusion.fit.learning_rate, fusion.fit.weight_decay) == ("rmsprop", 9.44e-5, 5.55e-4)
    assert (fusion.fit.label_smoothing, fusion.fit.grad_clip, fusion.fit.scheduler) == (0.02, 0.5, "cosine")
    assert (fusion.loss.prototype_weight, fusion.loss.diversity_weight) == (0.2, 0.0)
    assert fusion.seeds == (42, 2025, 7777, 12345, 31415)


def test_a_candidate_changes_what_it_names_and_nothing_else() -> None:
    fusion = leya().fusion
    other = {"hidden_dim": 256, "learning_rate": 2e-4, "prototype_weight": 0.5}
    changed = fusion.with_candidate({**PAPER_CANDIDATE, **other})
    assert changed.model.hidden_dim == 256
    assert changed.fit.learning_rate == 2e-4
    assert changed.loss.prototype_weight == 0.5
    assert changed.fit.epochs == fusion.fit.epochs


def test_a_key_that_is_no_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="lerning_rate"):
        leya().fusion.with_candidate({"lerning_rate": 1e-4})
