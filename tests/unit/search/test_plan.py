"""Which candidates a plan names beforehand."""

import pytest

from twominds.errors import ConfigError
from twominds.recipes.leya import leya
from twominds.recipes.leya_searches import HEAD_SEARCH
from twominds.recipes.space import Choice, candidate_of
from twominds.records import Modality
from twominds.search.plan import Plan

OWN = leya().encoder_candidate(Modality.TEXT)


def test_a_shorter_grid_is_its_beginning() -> None:
    plan = Plan(space={"a": Choice(values=(1, 2, 3))}, first_points=({"a": 2},), sampler="grid", trials=2)
    assert plan.points() == [{"a": 2}, {"a": 1}]


def test_points_outside_of_the_space_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout"):
        Plan(space=HEAD_SEARCH.space, first_points=({**OWN, "dropout": 0.9},), sampler="random", trials=1).points()
    with pytest.raises(ConfigError, match="hidden_dims"):
        candidate_of({**OWN, "hidden_dims": "(7,)"}, HEAD_SEARCH.space)
