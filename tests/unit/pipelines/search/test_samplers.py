"""Candidates on their way through Ray Tune's samplers; none of them needs a cluster."""

from pathlib import Path
from typing import Any, cast

import pytest

from twominds.pipelines.search.samplers import CandidateSampler, Packs, tune_space
from twominds.recipes.leya import leya
from twominds.recipes.leya_searches import FACE_SEARCH, HEAD_SEARCH
from twominds.recipes.space import (
    Candidate,
    Choice,
    Sampler,
    SearchSpace,
    Uniform,
    candidate_of,
    candidates_of,
    check_candidate,
    grid,
)
from twominds.records import Modality
from twominds.search.candidate import SeedResult
from twominds.search.config import TuningConfig
from twominds.search.outcomes import Outcome
from twominds.search.plan import Plan
from twominds.search.store import SearchStore
from twominds.search.trial import SCORE, Rules

OWN = leya().encoder_candidate(Modality.TEXT)


SAMPLERS: tuple[Sampler, ...] = ("hyperopt", "random")
CONFIG = TuningConfig(random_starts=5, sampler_seed=3)


def sampler_of(
    sampler: Sampler, space: SearchSpace, points: list[Candidate], known: list[tuple[Candidate, float]] | None = None
) -> CandidateSampler:
    """As Tune has it when it asks for trials."""
    found = CandidateSampler(sampler, points, CONFIG, known or [])
    found.set_search_properties(SCORE, "max", tune_space(space))
    return found


def draws(sampler: CandidateSampler, space: SearchSpace, number: int) -> list[Candidate]:
    """What trials would get; they score nothing meanwhile."""
    return [candidate_of(cast("dict[str, Any]", sampler.suggest(str(i))), space) for i in range(number)]


def drawn(space: SearchSpace, first: Candidate, sampler: Sampler, trials: int) -> list[Candidate]:
    """What a search would try, as its trials get it."""
    points = Plan(space=space, first_points=(first,), sampler=sampler, trials=trials).points()
    return draws(sampler_of(sampler, space, points), space, trials)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_widths_of_layers_are_drawn_as_tuples_and_the_first_point_comes_first(sampler: Sampler) -> None:
    candidates = drawn(HEAD_SEARCH.space, OWN, sampler, 12)
    assert candidates[0] == OWN
    assert OWN["hidden_dims"] == (128,)
    for candidate in candidates:
        check_candidate(candidate, HEAD_SEARCH.space)
        leya().with_encoder_candidate(Modality.TEXT, candidate)  # its configs take it
    assert len({candidate["hidden_dims"] for candidate in candidates}) > 2, "they are not drawn at all"


def test_a_grid_is_tried_whole_the_recipes_own_first() -> None:
    own = leya().encoder_candidate(Modality.FACE)
    candidates = drawn(FACE_SEARCH.space, own, "grid", 54)
    assert candidates[0] == own
    assert len(candidates) == len(grid(FACE_SEARCH.space))
    assert all(point in candidates for point in grid(FACE_SEARCH.space))


LINE: SearchSpace = {"x": Uniform(low=0.0, high=1.0), "widths": Choice(values=((8,), (8, 8)))}


def test_a_search_taken_up_again_learns_from_the_candidates_of_before() -> None:
    """Best near x = 0.9: of 30 known candidates TPE learns where to look, without having drawn one of them itself."""
    known: list[tuple[Candidate, float]] = [
        ({"x": i / 30, "widths": ((8,), (8, 8))[i % 2]}, 1 - abs(i / 30 - 0.9)) for i in range(30)
    ]
    drawn = draws(sampler_of("hyperopt", LINE, [{"x": 0.123, "widths": (8,)}], known), LINE, 21)
    assert drawn[0] == {"x": 0.123, "widths": (8,)}, "what was begun comes first"
    near = sum(float(str(candidate["x"])) > 0.75 for candidate in drawn[1:])
    assert near >= 11, "of 20 draws at random so many lie there once in a thousand times"
    assert not any(candidate in [c for c, _ in known] for candidate in drawn)


def test_a_candidate_that_could_not_be_trained_is_no_bad_score() -> None:
    """HyperOpt's own list of what TPE goes by: those with a score, whether they were known or are over now."""
    known: list[tuple[Candidate, float]] = [
        ({"x": 0.1, "widths": (8,)}, 0.5),
        ({"x": 0.2, "widths": (8,)}, float("nan")),
        ({"x": 0.3, "widths": (8,)}, 0.6),
    ]
    searcher = sampler_of("hyperopt", LINE, [], known)
    drawn = draws(searcher, LINE, 3)
    searcher.on_trial_complete("0", {SCORE: float("nan")})
    searcher.on_trial_complete("1", {SCORE: 0.7})
    searcher.on_trial_complete("2", error=True)
    trials: list[Any] = cast("Any", searcher).get_state()["hyperopt_trials"].trials
    told = {trial["misc"]["vals"]["x"][0]: trial["result"]["loss"] for trial in trials}
    assert told == {0.1: -0.5, 0.3: -0.6, drawn[1]["x"]: -0.7}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_start_does_not_draw_the_same_again(sampler: Sampler) -> None:
    space: SearchSpace = {"x": Uniform(low=0.0, high=1.0)}

    def draw(known: list[Candidate], begun: list[Candidate]) -> list[Candidate]:
        searcher = sampler_of(sampler, space, begun, [(candidate, 0.5) for candidate in known])
        return draws(searcher, space, len(begun) + 5)[len(begun) :]

    first = draw([], [])
    assert first == draw([], []), "the same seed draws the same"
    assert not [candidate for candidate in draw(first, []) if candidate in first]
    assert not [candidate for candidate in draw([], first) if candidate in first], "none was over, all were begun"
    assert not [candidate for candidate in draw(first[:2], first[2:]) if candidate in first]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_drawn_twice_while_there_is_something_else(sampler: Sampler) -> None:
    """Twelve candidates there are. The known one and the first point are two of them; the best would be drawn often."""
    space: SearchSpace = {"a": Choice(values=(1, 2, 3, 4)), "widths": Choice(values=((8,), (8, 8), (16,)))}
    searcher = sampler_of(sampler, space, [{"a": 2, "widths": (8,)}], [({"a": 1, "widths": (8,)}, 0.1)])
    found: list[Candidate] = []
    for number in range(11):
        found += [candidate_of(cast("dict[str, Any]", searcher.suggest(str(number))), space)]
        searcher.on_trial_complete(str(number), {SCORE: float(str(found[-1]["a"]))})
    assert found[0] == {"a": 2, "widths": (8,)}
    assert all(point in [{"a": 1, "widths": (8,)}, *found] for point in grid(space))
    assert searcher.suggest("one more") == CandidateSampler.FINISHED


# --- several candidates in one trial ---

PLANE: SearchSpace = {
    "x": Uniform(low=0.0, high=1.0),
    "layers": Choice(values=(1, 2, 3, 4)),
    "widths": Choice(values=((8,), (8, 8), (8, 8, 8))),
}


def packs(
    folder: Path, points: list[Candidate], *, per_trial: int = 3, trials: int = 8
) -> tuple[Packs, CandidateSampler]:
    plan = Plan(
        space=PLANE,
        first_points=points,
        sampler="hyperopt",
        trials=trials,
        per_trial=per_trial,
        shared=("layers", "widths"),
    )
    tpe = CandidateSampler("random", points, CONFIG)
    searcher = Packs(tpe, plan, points, SearchStore(str(folder)), Rules(seeds=(1,)), left=trials)
    searcher.set_search_properties(SCORE, "max", tune_space(PLANE))
    return searcher, tpe


def all_packs(searcher: Packs) -> list[list[Candidate]]:
    found: list[list[Candidate]] = []
    while isinstance(settings := searcher.suggest(f"trial-{len(found)}"), dict):
        found.append(candidates_of(settings, PLANE))
    assert settings == Packs.FINISHED
    return found


def shape(candidate: Candidate) -> tuple[object, ...]:
    return candidate["layers"], candidate["widths"]


def test_candidates_of_a_trial_share_what_gives_a_model_its_shape(tmp_path: Path) -> None:
    found = all_packs(packs(tmp_path, [])[0])
    assert [len(pack) for pack in found] == [3, 3, 2], "no more than there are to try"
    assert all(len({shape(candidate) for candidate in pack}) == 1 for pack in found)
    assert len({shape(pack[0]) for pack in found}) > 1
    assert len({str(candidate["x"]) for pack in found for candidate in pack}) == 8


def test_first_points_are_tried_as_they_are(tmp_path: Path) -> None:
    points: list[Candidate] = [
        {"x": 0.1, "layers": 2, "widths": (8,)},
        {"x": 0.2, "layers": 2, "widths": (8,)},
        {"x": 0.3, "layers": 3, "widths": (8,)},
    ]
    found = all_packs(packs(tmp_path, points)[0])
    assert found[0] == points[:2]
    assert found[1][0] == points[2]
    assert {shape(candidate) for candidate in found[1]} == {(3, (8,))}
    assert sum(map(len, found)) == 8


def test_tpe_hears_what_each_candidate_of_a_trial_came_to(tmp_path: Path) -> None:
    searcher, tpe = packs(tmp_path, [])
    store = SearchStore(str(tmp_path))
    (first, second, third) = candidates_of(cast("dict[str, Any]", searcher.suggest("a")), PLANE)
    for candidate, mf1 in ((first, 0.7), (second, 0.6)):
        store.end(Outcome(candidate=candidate, status="finished", results=(seed_result(mf1),), began=0.0, over=1.0))
    searcher.on_trial_complete("a", {SCORE: 0.7})
    known: list[Any] = cast("Any", tpe).get_state()["hyperopt_trials"].trials
    told: list[tuple[Any, Any]] = [
        (doc["misc"]["vals"], doc["result"]["loss"]) for doc in known if doc["result"]["status"] == "ok"
    ]
    layers, widths = (cast(Choice, PLANE[name]).values for name in ("layers", "widths"))
    for (values, loss), candidate, mf1 in zip(told, (first, second), (0.7, 0.6), strict=True):
        assert loss == pytest.approx(-mf1)
        assert values["x"] == [candidate["x"]]
        assert (layers[values["layers"][0]], widths[values["widths"][0]]) == shape(candidate)
    assert shape(third) == shape(first), "of the third nothing is known: it is an error to TPE, and no score"
    searcher.suggest("b")


def test_many_scores_of_packs_tell_tpe_where_to_look(tmp_path: Path) -> None:
    """Best with four layers: drawn at random, a quarter of the trials have these."""
    plan = Plan(space=PLANE, first_points=(), sampler="hyperopt", trials=90, per_trial=3, shared=("layers", "widths"))
    store = SearchStore(str(tmp_path))
    tpe = CandidateSampler("hyperopt", [], TuningConfig(random_starts=20, sampler_seed=3))
    searcher = Packs(tpe, plan, [], store, Rules(seeds=(1,)), left=90)
    searcher.set_search_properties(SCORE, "max", tune_space(PLANE))
    layers: list[object] = []
    for number in range(30):
        pack = candidates_of(cast("dict[str, Any]", searcher.suggest(str(number))), PLANE)
        layers.append(pack[0]["layers"])
        for candidate in pack:
            result = seed_result(0.5 + float(str(candidate["layers"])) / 10)
            store.end(Outcome(candidate=candidate, status="finished", results=(result,), began=0.0, over=float(number)))
        searcher.on_trial_complete(str(number), {SCORE: 0.5})
    assert layers[10:].count(4) >= 11, "of 20 draws at random so many have them four times in a thousand"


def seed_result(mf1: float) -> SeedResult:
    return SeedResult(
        seed=1,
        validation_score=mf1,
        validation_loss=0.6,
        selection_score=mf1,
        selection_loss=0.6,
        best_epoch=1,
        epochs=1,
        seconds=1.0,
    )
