"""Joining a Ray cluster, or starting a small one on this machine."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

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
    _quiet_ray_data()
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


def cpus_of_a_node() -> float:
    """CPUs of the largest node: what one worker can ask for at most."""
    nodes = cast("list[dict[str, Any]]", ray.nodes())
    return max((float(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]), default=0.0) or 1.0


def _quiet_ray_data() -> None:
    """Leaves Ray Data's console to its warnings: the jobs count clips themselves (`progress.py`), Ray counts blocks.

    Its own account of a run stays in the session's `logs/ray-data`.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The pools are sized by CPUs, and a model's memory is known only once it has run.
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.WARNING)


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
