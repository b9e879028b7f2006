"""What a person sees of a job while it runs."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL_S = 10.0
"""Between two lines about the clips that are done, where the output is no terminal that can show a bar."""


@contextmanager
def printed_lines() -> Generator[Queue]:
    """A queue for workers anywhere in the cluster: what they put into it, a line at a time, is printed here."""
    with _listening(lambda line: Console().print(line, highlight=False)) as lines:
        yield lines


@contextmanager
def counted_clips(total: int) -> Generator[Queue]:
    """A queue for workers anywhere in the cluster: they put in how many clips they ended, it is shown here."""
    columns = TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console, done, last_line = Console(), 0, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("clips", total=total)

        def show(clips: int) -> None:
            nonlocal done, last_line
            done += clips
            bar.advance(task, clips)
            if not console.is_terminal and time.monotonic() - last_line > LINE_INTERVAL_S:
                console.print(f"clips {done}/{total}", highlight=False)
                last_line = time.monotonic()

        with _listening(show) as queue:
            yield queue


@contextmanager
def _listening(show: Callable[[Any], None]) -> Generator[Queue]:
    """A queue whose items are shown by a thread of this process, all of them before the block is left."""
    # On the node of the job itself: were it on one that is lost, work on all the others would fail for a line of text.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def listen() -> None:
        while (item := queue.get()) is not None:
            show(item)

    listener = Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        queue.put(None)
        listener.join()
        queue.shutdown()
