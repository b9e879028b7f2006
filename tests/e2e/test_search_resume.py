"""A search whose driver is killed goes on where it was: the same number of candidates, no seed trained twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from twominds import artifacts
from twominds.search.store import SearchStore

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (42, 2025, 7777, 12345, 31415)
TRIALS = 3


def start(root: Path, trials: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "jobs/tune_fusion.py", "--recipe", "leya/demo/fusion-concat", "--trials", str(trials)]
    environment = os.environ | {"TWOMINDS_HOME": str(root)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [*command, "--stopping.risk", "0", "--concurrency", "1"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def seeds(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "search").rglob("seed-*.json")}


def wait_for_seeds(root: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while len(seeds(root)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.02)


def test_killed_in_mid_run_and_started_again_with_more_candidates(
    tmp_path: Path, write_embeddings: Callable[..., None]
) -> None:
    write_embeddings(str(tmp_path))
    first = start(tmp_path, TRIALS)
    # Seven seeds: one candidate is over, the next is under way.
    wait_for_seeds(tmp_path, 7, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    # Its workers notice by themselves; a seed that one of them still ends now counts as finished.
    time.sleep(5)
    before = seeds(tmp_path)
    (run,) = (tmp_path / "search").iterdir()
    begun = {path.parent.name for path in run.glob("candidates/*/begun.json")}
    assert len(begun) in (2, 3)
    second = start(tmp_path, TRIALS + 1)
    output, _ = second.communicate(timeout=400)
    assert second.returncode == 0, output
    after = seeds(tmp_path)
    assert len(after) == 5 * (TRIALS + 1)
    assert {path: after[path] for path in before} == before, "a finished seed was trained again"
    assert begun <= {path.stem for path in run.glob("outcomes/*.json")}, "a candidate that was begun was forgotten"
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    assert len(trials) == TRIALS + 1
    assert all(trial[f"score_seed_{seed}"] is not None for trial in trials for seed in SEEDS)
    candidates = [outcome.candidate for outcome in SearchStore(str(run)).outcomes()]
    assert all(candidate not in candidates[:number] for number, candidate in enumerate(candidates))
    assert artifacts.read_card(str(tmp_path / "ensemble")).seeds == SEEDS
    assert f"candidate {TRIALS + 1}/{TRIALS + 1}" in output
