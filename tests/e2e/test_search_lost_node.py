"""A search on two nodes whose state is on an object store, and one of the nodes is lost in mid-search."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster
from upath import UPath

from twominds import artifacts
from twominds.search.store import SearchStore
from twominds.storage import files_in

pytestmark = [pytest.mark.ray, pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
HOME = "s3://nodes/home"
TRIALS = 6


@dataclass(frozen=True, kw_only=True)
class TwoNodes:
    cluster: Any
    address: str
    second: Any
    """What `Cluster` takes to remove the node."""


@pytest.fixture
def two_nodes(
    s3_server: Callable[[], AbstractContextManager[ThreadedMotoServer]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TwoNodes]:
    """Two raylets of one CPU each on this machine, beside an S3 server; they know the way to it, and the home there."""
    monkeypatch.setenv("TWOMINDS_HOME", HOME)
    with s3_server():
        UPath("s3://nodes").mkdir()
        settings = {"num_cpus": 1, "object_store_memory": 150_000_000}
        cluster = cast("Any", Cluster)(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
        second = cluster.add_node(**settings)
        cluster.wait_for_nodes()
        yield TwoNodes(cluster=cluster, address=cluster.address, second=second)
        cluster.shutdown()


def start(address: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "jobs/tune_fusion.py", "--address", address, "--recipe", "leya/demo/fusion-concat"]
    return subprocess.Popen(
        [*command, "--trials", str(TRIALS), "--storage", f"{HOME}/search", "--stopping.risk", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def seeds() -> dict[str, bytes]:
    return {path.path: path.read_bytes() for path in files_in(f"{HOME}/search", "*/candidates/*/seed-*.json")}


def test_the_other_node_trains_what_was_lost(two_nodes: TwoNodes, write_embeddings: Callable[..., None]) -> None:
    write_embeddings(HOME)
    job = start(two_nodes.address)
    deadline = time.monotonic() + 300
    while len(before := seeds()) < 4:  # two candidates are under way, one on each node
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.2)
    two_nodes.cluster.remove_node(two_nodes.second, allow_graceful=False)
    output, _ = job.communicate(timeout=400)
    assert job.returncode == 0, output
    (run,) = UPath(f"{HOME}/search").iterdir()
    store = SearchStore(str(run))
    assert [outcome.status for outcome in store.outcomes()] == ["finished"] * TRIALS
    assert all(len(outcome.results) == 5 for outcome in store.outcomes())
    after = seeds()
    assert len(after) == 5 * TRIALS
    # A result says how many seconds its training took: trained again, it would say something else.
    assert {path: after[path] for path in before} == before
    causes = [incident.cause for incident in store.incidents()]
    assert any("process died" in cause for cause in causes), causes
    assert any("A node of the cluster was lost" in cause for cause in causes), causes
    told = json.loads((run / "report" / "results.json").read_text())["incidents"]
    assert [incident["cause"] for incident in told] == causes
    assert (run / "trials.parquet").exists()
    counted = [line for line in output.splitlines() if line.startswith("candidate ")]
    assert [line.split(":")[0] for line in counted] == [f"candidate {i}/{TRIALS}" for i in range(1, TRIALS + 1)]
    assert len(artifacts.read_card(f"{HOME}/ensemble").seeds) == 5
