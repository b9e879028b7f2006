"""What a person sees of a search while it runs: a line for each candidate that ends."""

import time
from typing import Any

from ray.tune import Callback
from rich.console import Console

from twominds.pipelines.candidate import CandidateStore


class SearchProgress(Callback):
    """Prints candidates done, the best so far and the time left; forgets the models of those that can't win."""

    def __init__(self, *, trials: int, seeds: int, run_uri: str) -> None:
        """Takes the number of candidates and of seeds per candidate."""
        self._trials, self._seeds, self._run_uri = trials, seeds, run_uri
        self._done = 0
        self._best = float("-inf")
        self._kept: dict[float, list[CandidateStore]] = {}
        self._started = time.monotonic()

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
        left = (time.monotonic() - self._started) / self._done * (self._trials - self._done)
        Console().print(
            f"candidate {self._done}/{self._trials}: MF1 {result.get('mean_mf1', float('nan')):.3f} "
            f"+- {result.get('std_mf1', float('nan')):.3f} over {result.get('seeds_done', 0)} seeds, "
            f"best {self._best:.3f}, about {left / 60:.0f} min left",
            highlight=False,
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate failed for good."""
        self._done += 1
        Console().print(f"candidate {self._done}/{self._trials}: failed, see {self._run_uri}/tune", highlight=False)
