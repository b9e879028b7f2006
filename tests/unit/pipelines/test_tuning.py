"""Candidates on their way through Ray Tune's samplers; none of them needs a cluster."""

from pathlib import Path
from typing import Any, cast

import pytest
import ray.tune

from twominds.errors import ConfigError
from twominds.pipelines.tuning import Plan, TuningConfig, candidate_of, make_sampler, tune_space
from twominds.recipes.leya import leya
from twominds.recipes.leya_searches import FACE_SEARCH, HEAD_SEARCH
from twominds.recipes.space import Candidate, Choice, Sampler, SearchSpace, check_candidate, grid
from twominds.records import Modality

OWN = leya().encoder_candidate(Modality.TEXT)


def drawn(space: SearchSpace, first: Candidate, sampler: Sampler, trials: int, folder: Path) -> list[Candidate]:
    """What a search would try, as its trials get it."""
    points = Plan(space=space, first_points=(first,), sampler=sampler, trials=trials).points()
    searcher: Any = make_sampler(sampler, points, TuningConfig(random_starts=5, sampler_seed=3))
    if sampler == "hyperopt":
        searcher.set_search_properties("score", "max", tune_space(space))
        return [candidate_of(searcher.suggest(str(i)), space) for i in range(trials)]
    add(searcher, space, trials, folder)
    return [candidate_of(searcher.next_trial().config, space) for _ in range(trials)]


def add(searcher: Any, space: SearchSpace, trials: int, folder: Path) -> None:
    """What Tune does before it asks for trials; their folders are not to be in the home folder."""
    cast("Any", ray.tune).register_trainable("drawn", print)
    settings = {"config": tune_space(space), "num_samples": trials, "storage_path": str(folder)}
    searcher.add_configurations({"drawn": {"run": "drawn", **settings}})


@pytest.mark.parametrize("sampler", ["hyperopt", "random"])
def test_widths_of_layers_are_drawn_as_tuples_and_the_first_point_comes_first(sampler: Sampler, tmp_path: Path) -> None:
    candidates = drawn(HEAD_SEARCH.space, OWN, sampler, 12, tmp_path)
    assert candidates[0] == OWN
    assert OWN["hidden_dims"] == (128,)
    for candidate in candidates:
        check_candidate(candidate, HEAD_SEARCH.space)
        leya().with_encoder_candidate(Modality.TEXT, candidate)  # its configs take it
    assert len({candidate["hidden_dims"] for candidate in candidates}) > 2, "they are not drawn at all"


def test_a_grid_is_tried_whole_the_recipes_own_first(tmp_path: Path) -> None:
    own = leya().encoder_candidate(Modality.FACE)
    candidates = drawn(FACE_SEARCH.space, own, "grid", 54, tmp_path)
    assert candidates[0] == own
    assert sorted(map(repr, candidates)) == sorted(map(repr, grid(FACE_SEARCH.space)))


def test_a_shorter_grid_is_its_beginning() -> None:
    plan = Plan(space={"a": Choice(values=(1, 2, 3))}, first_points=({"a": 2},), sampler="grid", trials=2)
    assert plan.points() == [{"a": 2}, {"a": 1}]


def test_points_outside_of_the_space_are_refused() -> None:
    with pytest.raises(ConfigError, match="dropout"):
        Plan(space=HEAD_SEARCH.space, first_points=({**OWN, "dropout": 0.9},), sampler="random", trials=1).points()
    with pytest.raises(ConfigError, match="hidden_dims"):
        candidate_of({**OWN, "hidden_dims": "(7,)"}, HEAD_SEARCH.space)


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_no_more_candidates_at_a_time_than_are_asked_for(sampler: Sampler, tmp_path: Path) -> None:
    space = {"a": Choice(values=(1, 2, 3))}
    points = Plan(space=space, first_points=(), sampler=sampler, trials=3).points()
    searcher: Any = make_sampler(sampler, points, TuningConfig(concurrency=1))
    add(searcher, space, 3, tmp_path)
    first = searcher.next_trial()
    assert searcher.next_trial() is None
    searcher.on_trial_complete(first.trial_id)
    assert searcher.next_trial() is not None
