"""One candidate to its outcome: what is kept, what ends it, what a sampler hears. No cluster, and made-up trainings."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from twominds.errors import TrainingError
from twominds.recipes.space import Candidate
from twominds.search.candidate import EndedEarlyError, SeedResult
from twominds.search.outcomes import Outcome
from twominds.search.store import SearchStore
from twominds.search.trial import SCORE, Rules, Train, Watch, try_candidates
from twominds.training.fit import EpochReport
from twominds.training.stopping import StoppingConfig

SEEDS = (42, 2025, 7777, 12345, 31415)
RULES = Rules(seeds=SEEDS, stopping=StoppingConfig(risk=0.05, median_after=2))


def seed_result(seed: int, mf1: float, curve: tuple[float, ...] = ()) -> SeedResult:
    return SeedResult(
        seed=seed,
        validation_score=mf1,
        validation_loss=0.6,
        selection_score=mf1,
        selection_loss=0.6,
        best_epoch=3,
        epochs=5,
        seconds=2.0,
        curve=curve,
    )


def epoch(number: int, mf1: float) -> EpochReport:
    return EpochReport(
        epoch=number,
        train_loss=0.7,
        validation_loss=0.6,
        validation_score=mf1,
        selection_loss=0.6,
        selection_score=mf1,
        learning_rate=1e-3,
        seconds=0.5,
    )


def scoring(*scores: float) -> Callable[[Candidate, Watch], None]:
    """A training in which the seeds come to these scores."""

    def train(candidate: Candidate, watch: Watch) -> None:
        for done in range(1, len(scores) + 1):
            watch.on_seed([seed_result(seed, mf1) for seed, mf1 in zip(SEEDS, scores[:done], strict=False)])

    return train


def alone(train: Callable[[Candidate, Watch], None]) -> Train:
    """Of candidates that come alone; what ends one is raised."""

    def train_all(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[None]:
        (candidate,), (watch,) = candidates, watches
        train(candidate, watch)
        return [None]

    return train_all


def tried(
    store: SearchStore, train: Callable[[Candidate, Watch], None], **candidate: int
) -> tuple[Outcome, list[dict[str, Any]]]:
    reports: list[dict[str, Any]] = []
    try_candidates(alone(train), [{**candidate}], store, RULES, reports.append)
    outcome = store.outcome({**candidate})
    assert outcome is not None
    return outcome, reports


@pytest.fixture
def store(tmp_path: Path) -> SearchStore:
    return SearchStore(str(tmp_path))


def two_finished(store: SearchStore) -> None:
    tried(store, scoring(0.70, 0.72, 0.71, 0.69, 0.73), d=1)
    tried(store, scoring(0.68, 0.71, 0.66, 0.68, 0.70), d=2)


def test_a_candidate_with_all_seeds_is_finished(store: SearchStore) -> None:
    outcome, reports = tried(store, scoring(0.70, 0.72, 0.71, 0.69, 0.73), d=1)
    assert (outcome.status, outcome.reason, outcome.rule) == ("finished", "", "")
    assert outcome.mean == pytest.approx(0.71)
    assert outcome.trained_s == 10.0
    assert [report["seeds_done"] for report in reports] == [1, 2, 3, 4, 5]
    assert reports[-1][SCORE] == pytest.approx(0.71)


def test_one_that_is_over_is_not_trained_again(store: SearchStore) -> None:
    first, _ = tried(store, scoring(0.70, 0.72, 0.71, 0.69, 0.73), d=1)

    def never(candidate: Candidate, watch: Watch) -> None:
        raise AssertionError("trained again")

    again, reports = tried(store, never, d=1)
    assert again == first
    assert reports[-1][SCORE] == pytest.approx(0.71)
    assert len(store.outcomes()) == 1, "counted twice"


def test_one_out_of_reach_is_ended_and_heard_of_as_what_it_is(store: SearchStore) -> None:
    two_finished(store)
    outcome, reports = tried(store, scoring(0.60, 0.99, 0.99, 0.99, 0.99), d=3)
    assert (outcome.status, outcome.rule) == ("ended", "reach")
    assert outcome.scores == (0.60,)
    assert "1 of 5 seeds" in outcome.reason
    # The first seed is a hard one: all five added .01 to the one finished candidate, .006 to the other.
    assert reports[-1][SCORE] == pytest.approx(0.60 + (0.01 + 0.006) / 2)
    assert reports[-1]["mean_score"] == pytest.approx(0.60)
    assert reports[-1]["seeds_done"] == 1


def test_one_below_the_median_is_ended_in_mid_seed(store: SearchStore) -> None:
    for i in range(5):
        curve = (0.5, 0.6 + i / 100, 0.7)

        def train(candidate: Candidate, watch: Watch, curve: tuple[float, ...] = curve) -> None:
            watch.on_seed([seed_result(seed, 0.7, curve) for seed in SEEDS])

        tried(store, train, d=i)

    def slow(candidate: Candidate, watch: Watch) -> None:
        for number, mf1 in enumerate((0.1, 0.61, 0.99), start=1):
            watch.on_epoch(SEEDS[0], epoch(number, mf1))

    outcome, reports = tried(store, slow, d=9)
    assert (outcome.status, outcome.rule, outcome.results) == ("ended", "median", ())
    assert (outcome.unfinished_epochs, outcome.unfinished_s, outcome.unfinished_score) == (2, 1.0, 0.61)
    # Its best so far stands for the seed; all seeds added nothing to the others.
    assert reports[-1][SCORE] == pytest.approx(0.61)
    assert reports[-1]["seeds_done"] == 0


def test_a_best_epoch_is_not_forgotten_by_the_median_rule(store: SearchStore) -> None:
    for i in range(5):
        tried(store, lambda c, w: w.on_seed([seed_result(s, 0.7, (0.5, 0.6, 0.7)) for s in SEEDS]), d=i)

    def up_and_down(candidate: Candidate, watch: Watch) -> None:
        for number, mf1 in enumerate((0.7, 0.2, 0.2), start=1):
            watch.on_epoch(SEEDS[0], epoch(number, mf1))
        scoring(0.7, 0.7, 0.7, 0.7, 0.7)(candidate, watch)

    assert tried(store, up_and_down, d=9)[0].status == "finished"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("The training loss is nan in epoch 3 (seed 2025)."), "loss is nan"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), "more memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "more memory"),
        (MemoryError("Unable to allocate 1.00 PiB"), "more memory"),
    ],
)
def test_one_that_cannot_be_trained_failed_and_keeps_its_seeds(store: SearchStore, error: Exception, said: str) -> None:
    def train(candidate: Candidate, watch: Watch) -> None:
        watch.on_seed([seed_result(42, 0.7)])
        raise error

    outcome, reports = tried(store, train, d=1)
    assert outcome.status == "failed"
    assert said in outcome.reason
    assert outcome.scores == (0.7,)
    assert math.isnan(reports[-1][SCORE])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug"), KeyError("a bug")])
def test_what_is_no_fault_of_the_candidate_leaves_it_unfinished(store: SearchStore, error: Exception) -> None:
    def train(candidate: Candidate, watch: Watch) -> None:
        raise error

    with pytest.raises(type(error)):
        try_candidates(alone(train), [{"d": 1}], store, RULES, lambda report: None)
    assert store.outcomes() == []
    assert store.unfinished() == [{"d": 1}]


# --- several candidates in one trial ---


def three(store: SearchStore, train: Train) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    try_candidates(train, [{"d": 1}, {"d": 2}, {"d": 3}, {"d": 2}], store, RULES, reports.append)
    return reports


def test_each_candidate_of_a_trial_has_an_outcome_of_its_own(store: SearchStore) -> None:
    def train(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        assert candidates == [{"d": 1}, {"d": 2}, {"d": 3}], "one that is drawn twice is trained once"
        watches[0].on_seed([seed_result(seed, 0.7) for seed in SEEDS])
        watches[2].on_seed([seed_result(SEEDS[0], 0.6)])
        return [None, TrainingError("It diverged."), EndedEarlyError("median", "Below.", best=0.5)]

    reports = three(store, train)
    outcomes = [store.outcome({"d": d}) for d in (1, 2, 3)]
    assert [outcome and outcome.status for outcome in outcomes] == ["finished", "failed", "ended"]
    assert [outcome and outcome.scores for outcome in outcomes] == [(0.7,) * 5, (), (0.6,)]
    assert len(store.outcomes()) == 3
    assert any(report[SCORE] == pytest.approx(0.7) for report in reports)

    def never(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        raise AssertionError("trained again")

    assert three(store, never), "Tune hears of a trial whose candidates are all over"


def test_what_is_too_large_together_is_tried_one_by_one(store: SearchStore) -> None:
    def train(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        if len(candidates) > 1 or candidates[0] == {"d": 3}:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        watches[0].on_seed([seed_result(seed, 0.7) for seed in SEEDS])
        return [None]

    three(store, train)
    assert [outcome.status for outcome in store.outcomes()] == ["finished", "finished", "failed"]


def test_what_died_together_is_tried_one_by_one(store: SearchStore) -> None:
    """The process is killed while the three are trained: nothing is raised, the next start finds them begun."""
    for d in (1, 2, 3):
        store.begin({"d": d})
    together: list[int] = []

    def train(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        together.append(len(candidates))
        watches[0].on_seed([seed_result(seed, 0.7) for seed in SEEDS])
        return [None]

    three(store, train)
    assert together == [1, 1, 1]
    assert [outcome.status for outcome in store.outcomes()] == ["finished"] * 3


def test_of_seeds_that_trained_together_those_that_finished_count_where_one_diverged(store: SearchStore) -> None:
    """On a GPU all train at once: the second diverged in its second epoch, the others went to their ends."""
    candidate: Candidate = {"d": 1}

    def train(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        for seed in SEEDS:
            for number in (1, 2):
                watches[0].on_epoch(seed, epoch(number, 0.5))
            if seed != SEEDS[1]:
                store.candidate(candidate).save(seed_result(seed, 0.7), {})
        return [TrainingError("It diverged.")]

    try_candidates(train, [candidate], store, RULES, lambda report: None)
    (outcome,) = store.outcomes()
    assert (outcome.status, [result.seed for result in outcome.results]) == ("failed", [42, 7777, 12345, 31415])
    assert (outcome.unfinished_epochs, outcome.unfinished_s) == (2, 1.0)
    assert outcome.trained_s == 4 * 2.0 + 1.0


def test_of_seeds_that_trained_together_those_that_finished_are_a_cost_where_it_was_ended(store: SearchStore) -> None:
    """It is compared by its first seeds, in their order: the third, which had ended, is none of these."""
    candidate: Candidate = {"d": 1}

    def train(candidates: Sequence[Candidate], watches: Sequence[Watch]) -> list[Exception | None]:
        for seed in (SEEDS[0], SEEDS[2]):
            watches[0].on_epoch(seed, epoch(1, 0.5))
        store.candidate(candidate).save(seed_result(SEEDS[2], 0.7), {})
        return [EndedEarlyError("median", "Below.", best=0.5)]

    try_candidates(train, [candidate], store, RULES, lambda report: None)
    (outcome,) = store.outcomes()
    assert (outcome.results, outcome.unfinished_epochs, outcome.unfinished_score) == ((), 2, 0.5)


def test_candidates_that_were_begun_come_back_as_they_were(store: SearchStore) -> None:
    candidates: Sequence[Candidate] = [
        {"hidden_dims": (64, 128), "use_cls": True, "lr": 1e-4, "optimizer": "adamw", "layers": 1},
        {"hidden_dims": (64,), "use_cls": False, "lr": 1.0, "optimizer": "sgd", "layers": 2},
    ]
    began = [store.begin(candidate) for candidate in candidates]
    assert store.begin(candidates[0]) == began[0], "begun again, it still counts from the first time"
    assert [begun.times for c in candidates if (begun := store.begun(c)) is not None] == [2, 1]
    assert store.begun({"layers": 3}) is None
    found = SearchStore(store.uri).unfinished()
    assert found == list(candidates)
    assert [type(value) for value in found[0].values()] == [tuple, bool, float, str, int]
    assert [store.candidate(candidate).folder for candidate in found] == [store.candidate(c).folder for c in candidates]


def test_incidents_are_kept_in_order(store: SearchStore) -> None:
    store.note("first")
    store.note("second")
    assert [incident.cause for incident in SearchStore(store.uri).incidents()] == ["first", "second"]
