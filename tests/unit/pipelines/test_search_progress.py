"""The line that a search prints after each candidate, also when it is taken up again."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twominds.pipelines.candidate import CandidateStore, SeedResult
from twominds.pipelines.progress import SearchProgress


def finished(score: float, **candidate: int) -> Any:
    return SimpleNamespace(
        config=candidate, last_result={"score": score, "mean_mf1": score, "std_mf1": 0.0, "seeds_done": 5}
    )


def progress(run: Path, monkeypatch: pytest.MonkeyPatch, *, now: float) -> SearchProgress:
    monkeypatch.setattr(time, "monotonic", lambda: now)
    return SearchProgress(trials=4, seeds=5, run_uri=str(run))


def test_the_time_left_is_that_of_the_candidates_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = progress(tmp_path, monkeypatch, now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1120.0)
    search.on_trial_complete(1, [], finished(0.5, d=1))
    assert capsys.readouterr().out.strip() == (
        "candidate 1/4: MF1 0.500 +- 0.000 over 5 seeds, best 0.500, about 6 min left"
    )


def test_a_search_taken_up_again_counts_on_and_leaves_the_pause_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = progress(tmp_path, monkeypatch, now=1000.0)
    before.on_trial_complete(1, [], finished(0.7, d=1))
    after = progress(tmp_path, monkeypatch, now=1000.0)  # Tune restores the callback as it was made
    after.set_state(before.get_state())
    monkeypatch.setattr(time, "monotonic", lambda: 9000.0)
    after.setup()
    monkeypatch.setattr(time, "monotonic", lambda: 9060.0)
    after.on_trial_complete(2, [], finished(0.6, d=2))
    assert capsys.readouterr().out.splitlines()[-1] == (
        "candidate 2/4: MF1 0.600 +- 0.000 over 5 seeds, best 0.700, about 2 min left"
    )


def test_models_of_a_candidate_that_was_best_before_the_pause_are_kept_until_beaten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CandidateStore(str(tmp_path), {"d": 1})
    first.save(
        SeedResult(
            seed=42,
            validation_mf1=0.7,
            validation_loss=0.6,
            selection_mf1=0.7,
            selection_loss=0.6,
            best_epoch=3,
            epochs=5,
            seconds=1.0,
        ),
        {"weight": torch.zeros(1)},
    )
    before = progress(tmp_path, monkeypatch, now=0.0)
    before.on_trial_complete(1, [], finished(0.7, d=1))
    monkeypatch.setattr(time, "monotonic", lambda: 60.0)
    after = progress(tmp_path, monkeypatch, now=60.0)
    after.set_state(before.get_state())
    monkeypatch.setattr(time, "monotonic", lambda: 90.0)
    after.on_trial_complete(2, [], finished(0.6, d=2))
    assert set(first.state(42)) == {"weight"}
    after.on_trial_complete(3, [], finished(0.8, d=3))
    with pytest.raises(FileNotFoundError):
        first.state(42)
    assert first.result(42) is not None
