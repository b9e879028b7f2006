"""Joining a Ray cluster, or starting a small one on this machine."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import ray
import ray.data

OBJECT_STORE_BYTES = 1_000_000_000
"""For a cluster started here; a cluster that is joined has its own."""


@contextmanager
def cluster(address: str | None = None) -> Generator[int]:
    """The cluster that a job runs on; yields its number of CPUs.

    Under `ray job submit` and where `RAY_ADDRESS` is set that is the cluster it was submitted to. Otherwise one is
    started on this machine and stopped at the end. A cluster that is already connected is left as it is.

    Args:
        address: `auto` for a cluster running on this machine, `ray://host:10001` for a remote one.
    """
    # A line per operator every ten seconds is for terminals that redraw them in place, not for logs.
    ray.data.DataContext.get_current().enable_operator_progress_bars = sys.stderr.isatty()
    if ray.is_initialized():
        yield _cpus()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    target = address or os.environ.get("RAY_ADDRESS")
    if target:
        ray.init(address=target, log_to_driver=False)
    else:
        # "local": a stale file of a killed cluster would otherwise be taken for a running one.
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False)
    try:
        yield _cpus()
    finally:
        ray.shutdown()


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
