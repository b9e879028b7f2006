"""A Ray of the suite's own: small, without a dashboard, deaf to any cluster that already runs on the machine."""

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray with two CPUs, started once and stopped at the end."""
    ray.init(address="local", num_cpus=2, object_store_memory=300_000_000, include_dashboard=False)
    yield
    ray.shutdown()
