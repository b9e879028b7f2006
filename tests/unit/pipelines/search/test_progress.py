"""What is printed after each candidate, which models are kept, and what is remembered of accidents."""

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError
from rich.console import Console

from twominds.pipelines.search import progress as module
from twominds.pipelines.search.progress import SearchProgress
from twominds.recipes.space import Candidate, Choice
from twominds.search.candidate import SeedResult
from twominds.search.outcomes import Outcome, Status
from twominds.search.store import SearchStore
from twominds.search.trial import Rules

SPACE = {"d": Choice(values=(1, 2, 3, 4))}
RULES = Rules(seeds=(42, 2025))


def over(store: SearchStore, d: int, *scores: float, status: Status = "finished", loss: float = 0.6) -> Any:
    """A trial of Tune's whose candidate is over, and has its models."""
    candidate: Candidate = {"d": d}
    results = [
        SeedResult(
            seed=seed,
            validation_score=mf1,
            validation_loss=loss,
            selection_score=mf1,
            selection_loss=loss,
            best_epoch=3,
            epochs=5,
            seconds=1.0,
        )
        for seed, mf1 in zip(RULES.seeds, scores, strict=False)
    ]
    for result in results:
        store.candidate(candidate).save(result, {"weight": torch.zeros(1)})
    store.end(
        Outcome(candidate=candidate, status=status, results=tuple(results), reason="No.", began=0.0, over=float(d))
    )
    return SimpleNamespace(config={"d": d}, pickled_error_file=None)


def progress(store: SearchStore, monkeypatch: pytest.MonkeyPatch, *, now: float) -> SearchProgress:
    monkeypatch.setattr(time, "monotonic", lambda: now)
    found = SearchProgress(store, SPACE, RULES, trials=4)
    found.__enter__()
    return found


def test_lines_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1120.0)
    search.on_trial_complete(1, [], over(store, 1, 0.5, 0.6))
    search.on_trial_complete(2, [], over(store, 2, 0.4, status="ended"))
    search.on_trial_complete(3, [], over(store, 3, status="failed"))
    assert capsys.readouterr().out.splitlines() == [
        "candidate 1/4: MF1 0.550 +- 0.050 over 2 seeds, best 0.550 +- 0.050, about 6 min left",
        "candidate 2/4: MF1 0.400, ended after 1 of 2 seeds, best 0.550 +- 0.050, about 2 min left",
        "candidate 3/4: failed (No.), best 0.550 +- 0.050, about 1 min left",
    ]


def test_a_search_taken_up_again_counts_on_and_leaves_the_pause_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SearchStore(str(tmp_path))
    over(store, 1, 0.7, 0.7)
    after = progress(store, monkeypatch, now=9000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 9060.0)
    after.on_trial_complete(1, [], over(store, 2, 0.6, 0.6))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "candidate 2/4: MF1 0.600 +- 0.000 over 2 seeds, best 0.700 +- 0.000, about 2 min left"
    )


def test_only_the_best_keeps_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SearchStore(str(tmp_path))
    over(store, 1, 0.7, 0.7)
    search = progress(store, monkeypatch, now=0.0)

    def kept() -> set[str]:
        return {path.parent.name for path in tmp_path.glob("candidates/*/*.safetensors")}

    def folder(d: int) -> str:
        return store.candidate({"d": d}).folder.name

    search.on_trial_complete(1, [], over(store, 2, 0.6, 0.6))
    assert kept() == {folder(1)}
    search.on_trial_complete(2, [], over(store, 3, 0.7, 0.7, loss=0.5))
    assert kept() == {folder(3)}, "of equal scores the lower loss wins"
    search.on_trial_complete(3, [], over(store, 4, 0.99, status="ended"))
    assert kept() == {folder(3)}, "a candidate without all its seeds is no rival"
    assert store.candidate({"d": 1}).result(42) is not None


def test_of_equals_those_models_are_kept_that_the_end_looks_for_whoever_is_told_of_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=0.0)
    later, earlier = over(store, 2, 0.7, 0.7), over(store, 1, 0.7, 0.7)  # Tune tells of trials in its own order
    search.on_trial_complete(1, [], later)
    search.on_trial_complete(2, [], earlier)
    kept = {path.parent.name for path in tmp_path.rglob("*.safetensors")}
    best = max(store.outcomes(), key=RULES.rank)
    assert kept == {store.candidate(best.candidate).folder.name} == {store.candidate({"d": 1}).folder.name}


def test_a_candidate_that_is_drawn_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=0.0)
    trial = over(store, 1, 0.7, 0.7)
    search.on_trial_complete(1, [], trial)
    search.on_trial_complete(2, [], trial)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert set(store.candidate({"d": 1}).state(42)) == {"weight"}


def test_models_of_a_candidate_in_mid_training_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=0.0)
    trial = over(store, 1, 0.7, 0.7)
    store.candidate({"d": 2}).save(SeedResult(**(vars(store.outcomes()[0].results[0]))), {"weight": torch.zeros(1)})
    search.on_trial_complete(1, [], trial)
    assert set(store.candidate({"d": 2}).state(42)) == {"weight"}


def failed(tmp_path: Path, error: Exception, d: int, *, recovers: bool = False) -> Any:
    """A trial of Tune's that ended with an error; Tune keeps it like this."""
    (tmp_path / "error.pkl").write_bytes(cast("Any", cloudpickle).dumps(error))
    return SimpleNamespace(
        config={"d": d}, pickled_error_file=str(tmp_path / "error.pkl"), should_recover=lambda: recovers
    )


def test_what_dies_too_often_has_failed_and_a_full_disk_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SearchStore(str(tmp_path / "run"))
    search = progress(store, monkeypatch, now=0.0)
    killed = failed(tmp_path, ActorDiedError(), 1)
    store.begin({"d": 1})
    search.on_trial_recover(1, [], killed)
    assert [incident.cause for incident in store.incidents()] == [
        "A candidate's process died: it was killed. It is tried again."
    ]
    assert store.outcomes() == []
    search.on_trial_error(2, [], killed)
    (outcome,) = store.outcomes()
    assert (outcome.status, outcome.candidate) == ("failed", {"d": 1})
    assert "process died" in outcome.reason

    store.begin({"d": 3})
    search.on_trial_error(2, [], failed(tmp_path, ActorDiedError(), 3, recovers=True))
    assert store.outcome({"d": 3}) is None, "Tune may tell of one death twice; it has not died too often"
    assert store.incidents()[-1].cause.endswith("The next start of the search goes on with what was under way.")

    store.begin({"d": 2})
    full = OSError(28, "No space left on device")
    search.on_trial_error(3, [], failed(tmp_path, RayTaskError("trial", "Traceback", full), 2))
    assert "No space left on device" in store.incidents()[-1].cause
    assert store.unfinished() == [{"d": 3}, {"d": 2}], "they are to be tried again"
    assert "given up" not in store.incidents()[-1].cause
    search.on_trial_error(4, [], SimpleNamespace(config={"d": 2}, pickled_error_file=None))
    assert "Ray Tune does not say of what" in store.incidents()[-1].cause


def test_of_several_candidates_the_one_that_was_under_way_most_often_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their process died three times: first with all, then while the second was tried alone, twice."""
    store = SearchStore(str(tmp_path / "run"))
    search = progress(store, monkeypatch, now=0.0)
    for d in (1, 2, 3, 1, 2, 2):
        store.begin({"d": d})
    over(store, 1, 0.7, 0.7)
    killed = failed(tmp_path, ActorDiedError(), 0)
    killed.config = {"candidates": [{"d": 1}, {"d": 2}, {"d": 3}]}
    search.on_trial_error(1, [], killed)
    statuses = {str(outcome.candidate): outcome.status for outcome in store.outcomes()}
    assert statuses == {"{'d': 1}": "finished", "{'d': 2}": "failed"}
    assert store.unfinished() == [{"d": 3}]
    assert search.best is not None, "the first is counted, too"


def test_who_is_under_way_counts_half_for_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After two minutes one of four is over, another half done: the two and a half that are left take 200 s."""
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 120.0)
    trial = over(store, 1, 0.5, 0.5)
    trial.status = "RUNNING"
    others = [SimpleNamespace(config={"d": 2}, status=status) for status in ("RUNNING", "PENDING")]
    search.on_trial_complete(1, [trial, *others], trial)
    assert capsys.readouterr().out.strip().endswith("about 3 min left")


def test_a_terminal_shows_a_table_that_is_kept_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(module, "Console", lambda: Console(file=screen, force_terminal=True, width=100))
    store = SearchStore(str(tmp_path))
    search = progress(store, monkeypatch, now=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 60.0)
    search.on_trial_complete(1, [], over(store, 1, 0.4, 0.5))
    search.on_trial_complete(2, [], over(store, 2, 0.7, 0.8))
    cast("Any", cloudpickle).dumps(search)  # Tune does, in mid-search
    search.__exit__(None, None, None)
    shown = screen.getvalue().split("2/4")[-1]
    assert "about 1 min left" in shown
    first, second = (line for line in shown.splitlines() if "+-" in line)
    assert "0.750 +- 0.050" in first
    assert "d 2" in first
    assert "0.450 +- 0.050" in second
    assert "candidate 1/4" not in screen.getvalue(), "lines are for logs"


def test_candidates_of_one_trial_count_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SearchStore(str(tmp_path / "run"))
    search = progress(store, monkeypatch, now=0.0)
    over(store, 1, 0.6, 0.6)
    over(store, 2, 0.7, 0.7)
    search.on_trial_complete(1, [], SimpleNamespace(config={"candidates": [{"d": 1}, {"d": 2}]}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "candidate 1/4: MF1 0.600 +- 0.000 over 2 seeds",
        "candidate 2/4: MF1 0.700 +- 0.000 over 2 seeds",
    ]
    # One of the next trial's was over when its process died.
    over(store, 3, 0.5, 0.5)
    killed = failed(tmp_path, ActorDiedError(), 0)
    killed.config = {"candidates": [{"d": 3}, {"d": 4}]}
    search.on_trial_error(2, [], killed)
    assert [(o.candidate["d"], o.status) for o in sorted(store.outcomes(), key=lambda o: str(o.candidate))] == [
        (1, "finished"),
        (2, "finished"),
        (3, "finished"),
        (4, "failed"),
    ]
    assert len(capsys.readouterr().out.splitlines()) == 2
