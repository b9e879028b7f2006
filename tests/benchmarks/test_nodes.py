"""The same search on one raylet of one core and on two: trials per minute. See README.md."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ray.cluster_utils import Cluster

from twominds.recipes.leya import PAPER_CANDIDATE
from twominds.search.outcomes import Outcome
from twominds.search.store import SearchStore

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]

HERE = Path(__file__).resolve().parent
TRIALS = 20
FIXED = PAPER_CANDIDATE | {"num_layers": 1, "epochs": 8, "patience": 8}
SPACE = [f"{name}={value}" for name, value in FIXED.items() if name != "learning_rate"]
"""One small model, and as many epochs whatever comes of them: all candidates take as long."""
NODE = {"num_cpus": 1, "object_store_memory": 150_000_000}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of BAH's size."""
    folder = tmp_path_factory.mktemp("nodes")
    subprocess.run([sys.executable, HERE / "search_data.py", folder], check=True)
    return folder


@pytest.fixture
def cluster() -> Iterator[Any]:
    """One raylet of one CPU; nodes can be added."""
    nodes = cast("Any", Cluster)(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


def search(data: Path, address: str, output: Path) -> tuple[float, list[Outcome]]:
    """Seconds of the whole job, and its candidates; all of them train alike, none is ended early."""
    places = ["--embeddings", data / "embeddings", "--encoders", data / "encoders", "--ensemble", output / "best"]
    how = ["--trials", TRIALS, "--sampler", "random", "--stopping.risk", 0, "--space", *SPACE, "--address", address]
    command = [
        sys.executable,
        HERE.parents[1] / "jobs" / "tune_fusion.py",
        *places,
        *how,
        "--output",
        output / "search",
    ]
    started = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, cwd=HERE.parents[1])
    seconds = time.perf_counter() - started
    (run,) = (output / "search").iterdir()
    return seconds, SearchStore(str(run)).outcomes()


def trials_per_minute(outcomes: list[Outcome]) -> float:
    """From the begin of the first to the end of the last."""
    assert [outcome.status for outcome in outcomes] == ["finished"] * TRIALS
    began, over = min(outcome.began for outcome in outcomes), max(outcome.over for outcome in outcomes)
    return 60 * len(outcomes) / (over - began)


def train_side_by_side(data: Path, output: Path, processes: int) -> float:
    """Seconds of so many processes that each train one candidate with five seeds, without Ray."""
    candidate = json.dumps({"num_layers": 1, "learning_rate": 1e-4})
    command = [sys.executable, HERE / "search_refit.py", "--embeddings", data / "embeddings", "--candidate", candidate]
    started = time.perf_counter()
    running = [
        subprocess.Popen([str(part) for part in [*command, "--output", output / f"{number}.json"]])
        for number in range(processes)
    ]
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - started


def test_two_raylets_against_one(data: Path, cluster: Any, tmp_path: Path) -> None:
    alone = train_side_by_side(data, tmp_path, 1)
    both = train_side_by_side(data, tmp_path, 2)
    one_s, one = search(data, cluster.address, tmp_path / "one")
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    two_s, two = search(data, cluster.address, tmp_path / "two")
    rates = trials_per_minute(one), trials_per_minute(two)
    print(
        f"\n{TRIALS} candidates of five seeds\n"
        f"one raylet: {rates[0]:.2f} trials per minute, the job {one_s:.1f} s\n"
        f"two raylets: {rates[1]:.2f} trials per minute, the job {two_s:.1f} s\n"
        f"{rates[1] / rates[0]:.2f} times the trials per minute; the whole job {one_s / two_s:.2f} times as fast\n"
        f"two processes without Ray, on this machine, do {2 * alone / both:.2f} times as much as one "
        f"({alone:.1f} s alone, {both:.1f} s side by side)"
    )
