"""Search spaces and the candidates that come out of them."""

import pytest

from twominds.errors import ConfigError
from twominds.recipes.leya import PAPER_CANDIDATE, SPACE, leya
from twominds.recipes.space import Choice, LogUniform, Uniform, check_candidate


def test_dimensions_know_what_they_contain() -> None:
    assert Choice(values=(1, "a")).contains("a")
    assert not Choice(values=(1, "a")).contains(2)
    assert Uniform(low=0.5, high=2.0).contains(2.0)
    assert not Uniform(low=0.5, high=2.0).contains("1")
    assert not LogUniform(low=1e-4, high=2e-3).contains(3e-3)


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
