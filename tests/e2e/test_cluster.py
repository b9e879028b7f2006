"""Clusters that a job starts or joins: who can talk to the first, and whose results lie where on the second.

Here and not in `tests/ray`, which another process runs: a job submitted to the README's head would join the newest.
"""

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from twominds.errors import ConfigError
from twominds.pipelines.cluster import MORE_THAN_LOOPBACK, cluster

pytestmark = pytest.mark.ray


@pytest.fixture
def no_ray(ray_session: None, ray_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The suite's Ray, left for the time of a test."""
    ray.shutdown()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    ray.shutdown()
    ray.init(address=ray_address, log_to_driver=False)


def descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def test_what_a_job_starts_listens_to_this_machine_alone(no_ray: None) -> None:
    others = descendants()
    before = os.environ.get(MORE_THAN_LOOPBACK)
    with cluster():
        started = [connection for process in descendants() - others for connection in process.net_connections("inet")]
        listening = {connection.laddr.ip for connection in started if connection.status == psutil.CONN_LISTEN}
    assert listening
    for address in listening:
        ip = ipaddress.ip_address(address)
        assert ip.is_loopback or (ip.version == 6 and ip.ipv4_mapped and ip.ipv4_mapped.is_loopback), address
    assert os.environ.get(MORE_THAN_LOOPBACK) == before


def test_a_cluster_that_keeps_its_results_elsewhere_is_refused(
    no_ray: None, ray_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with cluster(ray_address) as cpus:
        assert cpus == 2
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=str(tmp_path)), cluster(ray_address):
        pytest.fail("a job began")
    assert not ray.is_initialized()
