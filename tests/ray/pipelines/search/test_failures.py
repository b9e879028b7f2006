"""What a search survives on one node: each failure is really caused, and leaves every other candidate alone."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from twominds import artifacts
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.search.tuning import SearchError
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.recipes.space import Candidate, Choice
from twominds.reports.summary import Summary
from twominds.search import setup as search_setup
from twominds.search.config import SearchConfig
from twominds.search.outcomes import Outcome
from twominds.search.store import SearchStore
from twominds.training.stopping import StoppingConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

SEEDS = 5
SMALL: Candidate = {"hidden_dim": 8, "learning_rate": 1e-3, "dropout": 0.1}
DIVERGES: Candidate = {**SMALL, "learning_rate": 1e30}
HUGE: Candidate = {**SMALL, "hidden_dim": 2**20}
"""Its attention alone would be 3 x 2^40 numbers: 12 TiB."""
SLOW: Candidate = {**SMALL, "hidden_dim": 128}


def recipe(*first: Candidate, epochs: int = 6) -> Callable[[str], Recipe]:
    """LEYA's fusion at a small size, searched where some candidates can't be trained."""

    def find(name: str) -> Recipe:
        found = find_recipe("leya/demo")
        space = {
            "hidden_dim": Choice(values=(8, 16, 128, 2**20)),
            "learning_rate": Choice(values=(1e-3, 2e-3, 1e30)),
            "dropout": Choice(values=(0.1, 0.2, 0.3)),
        }
        model = replace(found.fusion.model, num_layers=1, num_heads=2)
        fit = replace(found.fusion.fit, epochs=epochs, optimizer="adamw", scheduler="none")
        return replace(found, fusion=replace(found.fusion, model=model, fit=fit, space=space, first_points=first))

    return find


def configured(root: Path, *, trials: int, **options: Any) -> SearchConfig:
    places = {name: str(root / name) for name in ("embeddings", "encoders", "ensemble")}
    stopping = StoppingConfig(risk=0)
    return SearchConfig(**places, output=str(root / "search"), trials=trials, stopping=stopping, **options)


def store_of(root: Path) -> SearchStore:
    (run,) = (root / "search").iterdir()
    return SearchStore(str(run))


def trial_processes() -> list[psutil.Process]:
    """Processes in which candidates are trained; Ray names them by what they do."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "ImplicitFunc" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def accidents(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., None]
) -> Iterator[tuple[Summary, SearchStore, list[int], dict[Path, int]]]:
    """One search with a candidate that diverges, one that is too large, and a worker that is killed meanwhile."""
    root = tmp_path_factory.mktemp("accidents")
    write_embeddings(str(root))
    killed: list[int] = []
    seeds_before: dict[Path, int] = {}

    def kill_one() -> None:
        """As soon as the slow candidate has two seeds."""
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not killed:
            for begun in root.glob("search/*/candidates/*/begun.json"):
                seeds = list(begun.parent.glob("seed-*.json"))
                if json.loads(begun.read_text())["candidate"] == SLOW and len(seeds) == 2:
                    seeds_before.update({path: path.stat().st_mtime_ns for path in seeds})
                    processes = trial_processes()
                    killed.extend(process.pid for process in processes)
                    for process in processes:
                        os.kill(process.pid, signal.SIGKILL)
                    return
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_setup, "find_recipe", recipe(DIVERGES, HUGE, SLOW, SMALL))
        killer = Thread(target=kill_one, daemon=True)
        killer.start()
        summary = search_fusion(configured(root, trials=4, concurrency=1))
        killer.join()
        yield summary, store_of(root), killed, seeds_before


def outcome(store: SearchStore, candidate: Candidate) -> Outcome:
    found = store.outcome(candidate)
    assert found is not None
    return found


Accidents = tuple[Summary, SearchStore, list[int], dict[Path, int]]


def test_a_loss_that_is_not_a_number_fails_that_candidate_alone(accidents: Accidents) -> None:
    _, store, _, _ = accidents
    diverged = outcome(store, DIVERGES)
    assert diverged.status == "failed"
    assert "nan" in diverged.reason or "not numbers" in diverged.reason
    assert "seed 42" in diverged.reason


def test_a_candidate_that_is_too_large_fails_alone(accidents: Accidents) -> None:
    _, store, _, _ = accidents
    huge = outcome(store, HUGE)
    assert huge.status == "failed"
    assert "more memory than there is" in huge.reason


def test_a_killed_worker_costs_no_finished_seed(accidents: Accidents) -> None:
    _, store, killed, seeds_before = accidents
    assert len(killed) == 1, "the test has killed nothing"
    assert len(seeds_before) == 2
    slow = outcome(store, SLOW)
    assert slow.status == "finished"
    assert len(slow.results) == SEEDS
    assert {path: path.stat().st_mtime_ns for path in seeds_before} == seeds_before, "a seed was trained again"
    assert [incident.cause for incident in store.incidents()] == [
        "A candidate's process died: it was killed. It is tried again."
    ]


def test_every_candidate_counts_once_and_the_report_says_what_happened(accidents: Accidents) -> None:
    summary, store, _, _ = accidents
    facts = dict(summary.facts)
    assert facts["candidates that failed"] == "2"
    assert facts["incidents survived"].startswith("1, ")
    trials = pq.read_table(f"{store.uri}/trials.parquet").to_pylist()
    statuses = [trial["status"] for trial in trials]
    assert len(trials) == len(store.outcomes()) == 4
    assert statuses.count("failed") == 2
    assert statuses.count("finished") == 2
    page = (Path(store.uri) / "report" / "report.html").read_text()
    assert "more memory than there is" in page
    assert "process died: it was killed" in page


def test_the_winner_has_all_its_seeds(accidents: Accidents) -> None:
    summary, store, _, _ = accidents
    card = artifacts.read_card(summary.where)
    assert len(card.seeds) == SEEDS
    assert outcome(store, card.metrics["candidate"]).status == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing(
    ray_session: None,
    tmp_path: Path,
    small_disk: Path,
    write_embeddings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk fills up when one candidate is over; with room again, the same command goes on."""
    write_embeddings(str(tmp_path))
    monkeypatch.setattr(search_setup, "find_recipe", recipe(SMALL, SLOW))
    config = replace(configured(tmp_path, trials=3, concurrency=1, max_failures=0), output=str(small_disk / "search"))

    def fill() -> None:
        """To the last byte, in mid-search."""
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not list(small_disk.glob("search/*/outcomes/*.json")):
            time.sleep(0.01)
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)

    filler = Thread(target=fill, daemon=True)
    filler.start()
    with pytest.raises(SearchError) as stopped:
        search_fusion(config)
    filler.join()
    assert "No space left on device" in str(stopped.value)
    store = store_of(small_disk)
    before = store.outcomes()
    assert 1 <= len(before) < 3
    (small_disk / "ballast").unlink()

    summary = search_fusion(config)
    assert len(SearchStore(store.uri).outcomes()) == 3
    assert SearchStore(store.uri).outcomes()[: len(before)] == before
    assert dict(summary.facts)["candidates with all seeds"] == "3 of 3"
    assert artifacts.read_card(config.ensemble).seeds
