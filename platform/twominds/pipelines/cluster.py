"""Joining a Ray cluster, or starting a small one on this machine."""

import gc
import logging
import os
import signal
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar, cast

import ray
import ray.data
from ray._private import ray_constants

from twominds.errors import ConfigError
from twominds.workspace import check_same_root, fixed_root

T = TypeVar("T")

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 1_000_000_000
"""For a cluster started here; a cluster that is joined has its own."""
MORE_THAN_LOOPBACK = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""The variable that lets Ray listen on more than the loopback interface, as it does on Linux by default."""


@contextmanager
def cluster(address: str | None = None) -> Generator[int]:
    """The cluster that a job runs on; yields its number of CPUs.

    Under `ray job submit` and where `RAY_ADDRESS` is set that is the cluster it was submitted to. Otherwise one is
    started on this machine and stopped at the end. A cluster that is already connected is left as it is.

    Args:
        address: `auto` for a cluster running on this machine, `ray://host:10001` for a remote one.

    Raises:
        ConfigError: there is no cluster at the address, or its workers keep results elsewhere than this process.
    """
    _quiet_ray_data()
    if ray.is_initialized():
        # Ray Data's executors lie in reference cycles, and with them actors that were started anew for dead ones: these
        # keep their CPUs until they are collected, and what comes now might wait for them for ever.
        gc.collect()
        yield _cpus()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    target = address or os.environ.get("RAY_ADDRESS")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if target:
        try:
            ray.init(address=target, log_to_driver=False)
        except ConnectionError as error:
            raise ConfigError(
                f"There is no Ray cluster at {target}. Start one (`ray start --head`), or leave out --address and "
                "RAY_ADDRESS: one is then started here for the job."
            ) from error
    else:
        _start()
    if callable(on_sigterm):
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in its place, which knows no sentence
    try:
        if target:
            check_same_root(ray.get(ray.remote(num_cpus=0)(fixed_root).remote()))
        yield _cpus()
    finally:
        ray.shutdown()


def outside_main_thread(work: Callable[[], T]) -> T:
    """What `work` comes to in a thread of its own; Ctrl-C ends the wait for it.

    In the main thread Ray Train takes Ctrl-C for itself, and never gives it back.
    """
    outcome = Future[T]()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome.result()


def cpus_of_a_worker(workers: int) -> float:
    """Whole CPUs for each of some workers, at least one.

    They share the largest node: on a cluster of several they may end up on one all the same, and asking for more than
    can be had is to wait for ever.
    """
    nodes = cast("list[dict[str, Any]]", ray.nodes())
    largest = max((float(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]), default=0.0)
    return max(1.0, largest // workers)


def lost_nodes() -> int:
    """How many nodes the cluster has had and has no more."""
    return sum(not node["Alive"] for node in cast("list[dict[str, Any]]", ray.nodes()))


def share_of_node(cpus: float, gpus: float) -> float:
    """How much of the largest node something takes that asks for so many CPUs and GPUs, at most 1."""
    alive = [node for node in cast("list[dict[str, Any]]", ray.nodes()) if node["Alive"]]
    nodes = [cast("dict[str, float]", node["Resources"]) for node in alive]
    asked = {"CPU": cpus, "GPU": gpus}
    shares = [
        need / there
        for what, need in asked.items()
        if need and (there := max((node.get(what, 0.0) for node in nodes), default=0.0))
    ]
    return min(1.0, max(shares, default=1.0))


def warn_of_missing_gpus(wanted: float) -> None:
    """Says so where a job asks for GPUs of a cluster that has none: unless it grows, the job would wait for ever."""
    if wanted and not ray.cluster_resources().get("GPU"):
        logger.warning("GPUs were asked for, and the cluster has none: until it gets one, this job waits.")


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


def _start() -> None:
    """Starts a cluster that only this machine can talk to: by itself Ray listens on every interface.

    On Windows and macOS it does not. What decides that is in the environment for the processes that it starts, and in a
    constant for this one, which has read the environment long ago; a cluster that is joined later needs both as before.
    """
    environment, constant = os.environ.get(MORE_THAN_LOOPBACK), cast(bool, ray_constants.ENABLE_RAY_CLUSTER)
    os.environ[MORE_THAN_LOOPBACK], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        # "local": a stale file of a killed cluster would otherwise be taken for a running one.
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        del os.environ[MORE_THAN_LOOPBACK]
        if environment is not None:
            os.environ[MORE_THAN_LOOPBACK] = environment


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
