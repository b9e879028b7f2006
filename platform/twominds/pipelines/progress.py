"""What a person sees of a job while it runs."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import ray
from ray.tune import Callback
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from twominds.pipelines.candidate import CandidateStore

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


class SearchProgress(Callback):
    """Prints candidates done, the best so far and the time left; forgets the models of those that can't win."""

    def __init__(self, *, trials: int, seeds: int, run_uri: str) -> None:
        """Takes the number of candidates and of seeds per candidate."""
        self._trials, self._seeds, self._run_uri = trials, seeds, run_uri
        self._done = 0
        self._best = float("-inf")
        self._kept: dict[float, list[CandidateStore]] = {}
        self._started, self._done_at_start = time.monotonic(), 0

    def setup(self, *args: Any, **info: Any) -> None:
        """The clock starts when the search does, also when it is taken up again."""
        self._started = time.monotonic()

    def get_state(self) -> dict[str, Any]:
        """What Tune keeps beside its trials, for a search that is taken up again."""
        return {"done": self._done, "best": self._best, "kept": self._kept}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting where the search was interrupted."""
        self._done = self._done_at_start = state["done"]
        self._best, self._kept = state["best"], state["kept"]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate has all its seeds."""
        self._done += 1
        result: dict[str, Any] = trial.last_result or {}
        score = float(result.get("score", float("nan")))
        self._best = max(self._best, score)
        self._kept.setdefault(score, []).append(CandidateStore(self._run_uri, trial.config))
        for beaten in [value for value in self._kept if value < self._best]:
            for store in self._kept.pop(beaten):
                store.drop_models()
        per_trial = (time.monotonic() - self._started) / (self._done - self._done_at_start)
        left = per_trial * (self._trials - self._done)
        spread = f" +- {result.get('std_mf1', float('nan')):.3f} over {result.get('seeds_done', 0)} seeds"
        Console().print(
            f"candidate {self._done}/{self._trials}: MF1 {result.get('mean_mf1', float('nan')):.3f}"
            f"{spread if self._seeds > 1 else ''}, best {self._best:.3f}, about {left / 60:.0f} min left",
            highlight=False,
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate failed for good."""
        self._done += 1
        Console().print(f"candidate {self._done}/{self._trials}: failed, see {self._run_uri}/tune", highlight=False)
