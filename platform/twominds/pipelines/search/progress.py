"""What a person sees of a search while it runs, and what it remembers of the accidents on its way."""

import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from twominds.recipes.space import Candidate, SearchSpace, candidates_of
from twominds.reports.search.terminal import best_table, score_text
from twominds.search.outcomes import Outcome
from twominds.search.store import SearchStore
from twominds.search.trial import Rules

PROCESS_DIED = "A candidate's process died"
"""How the cause begins."""
_DEATHS = {"low on memory": "its node ran low on memory", "node has died": "its node was lost"}
"""What Ray says of a dead process, and we. Of one that was killed from outside it knows nothing."""

logger = logging.getLogger(__name__)


class SearchProgress(Callback):
    """Counts candidates that are over, the best so far and the time left: a table in a terminal, else a line each.

    Forgets the models of those that can't win, and notes in the store what went wrong.
    """

    def __init__(self, store: SearchStore, space: SearchSpace, rules: Rules, *, trials: int) -> None:
        """Takes the search and the number of its candidates, those of earlier starts included."""
        self._store, self._space, self._rules, self._trials = store, space, rules, trials
        over = store.outcomes()
        self._over = [outcome.candidate for outcome in over]
        self._finished = [outcome for outcome in over if outcome.status == "finished"]
        self._done = self._done_at_start = len(over)
        self._under_way = 0
        self._started = time.monotonic()
        best = self.best
        store.keep_models_of([best.candidate] if best else [])

    def __enter__(self) -> None:
        """The clock starts; where there is a terminal, so does the table."""
        self._started = time.monotonic()
        console = Console()
        self._live = Live(self._shown(), console=console, refresh_per_second=2) if console.is_terminal else None
        if self._live:
            self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The table stays as it is."""
        if self._live:
            self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a copy of its callbacks; a terminal can't be kept."""
        return {**self.__dict__, "_live": None}

    @property
    def best(self) -> Outcome | None:
        """The best of the finished candidates; None while there is none."""
        return max(self._finished, key=self._rules.rank, default=None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The candidates of a trial are over, or were stopped because the time is."""
        self._look_at(trials, trial)
        for candidate in candidates_of(trial.config, self._space):
            if (outcome := self._store.outcome(candidate)) is not None:
                self._end(outcome)

    def _look_at(self, trials: list[Any], over: Any) -> None:
        """Counts the candidates that are under way; Tune still counts the one that is over among them."""
        running = [trial for trial in trials if trial is not over and trial.status == "RUNNING"]
        self._under_way = sum(len(candidates_of(trial.config, self._space)) for trial in running)

    def _end(self, outcome: Outcome) -> None:
        if outcome.candidate in self._over:  # a sampler may draw the same again
            return
        self._over.append(outcome.candidate)
        before = self.best
        if outcome.status == "finished":
            self._finished.append(outcome)
        for beaten in (before, outcome):
            if beaten is not None and beaten is not self.best:
                self._store.candidate(beaten.candidate).drop_models()
        self._count(self._line(outcome))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A candidate's process died, and is started again."""
        self._note(f"{_cause(trial)} It is tried again.")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed more often than is allowed, or by no fault of its candidates."""
        self._look_at(trials, trial)
        cause = _cause(trial)
        candidates = candidates_of(trial.config, self._space)
        unfinished = [candidate for candidate in candidates if self._store.outcome(candidate) is None]
        guilty = self._guilty(trial, unfinished)
        left = "" if guilty == unfinished else " The next start of the search goes on with what was under way."
        self._note(f"{cause}{' It was given up.' if guilty else ''}{left}")
        for candidate in candidates:
            if candidate in guilty:
                self._give_up(candidate, cause)
            if (outcome := self._store.outcome(candidate)) is not None:
                self._end(outcome)

    def _guilty(self, trial: Any, unfinished: list[Candidate]) -> list[Candidate]:
        """Whatever a candidate did to its process it would do again.

        Storage that is full is no fault of a candidate's. Of several, which are tried one by one after the first death,
        it is the one that was begun most often.
        """
        # Of a process that dies between two trials Tune tells twice, the second time as if it could not be tried again.
        if not isinstance(_error(trial), RayActorError) or trial.should_recover():
            return []
        begun = [self._store.begun(candidate) for candidate in unfinished]
        times = [0 if found is None else found.times for found in begun]
        return [c for c, n in zip(unfinished, times, strict=True) if n == max(times) and times.count(n) == 1]

    def _give_up(self, candidate: Candidate, cause: str) -> None:
        done, begun = self._store.results(candidate, self._rules.seeds), self._store.begun(candidate)
        now = time.time()
        began = now if begun is None else begun.began
        self._store.end(
            Outcome(candidate=candidate, status="failed", results=done, reason=cause, began=began, over=now)
        )

    def _note(self, cause: str) -> None:
        try:
            self._store.note(cause)
        except OSError as error:  # storage is the accident, perhaps
            logger.warning("%s (It could not be noted: %s)", cause, error)

    def _count(self, line: str) -> None:
        self._done += 1
        if self._live:
            self._live.update(self._shown())
            return
        best = self.best
        so_far = f"best {score_text(best)}" if best else "none finished yet"
        Console().print(
            f"candidate {self._done}/{self._trials}: {line}, {so_far}, about {self._minutes_left():.0f} min left",
            highlight=False,
            soft_wrap=True,
        )

    def _line(self, outcome: Outcome) -> str:
        if outcome.status == "failed":
            return f"failed ({outcome.reason})"
        seeds = len(self._rules.seeds)
        if outcome.status == "ended":
            score = f"MF1 {outcome.mean:.3f}, " if outcome.results else ""
            return f"{score}ended after {len(outcome.results)} of {seeds} seeds"
        return f"MF1 {score_text(outcome)}" + (f" over {seeds} seeds" if seeds > 1 else "")

    def _minutes_left(self) -> float:
        done = self._done + self._under_way / 2  # who is under way is half done, on average
        per_candidate = (time.monotonic() - self._started) / max(1, done - self._done_at_start)
        return per_candidate * max(0.0, self._trials - done) / 60

    def _shown(self) -> RenderableType:
        bar = Progress(TextColumn("candidates"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        left = f"about {self._minutes_left():.0f} min left" if self._done > self._done_at_start else ""
        bar.add_task("candidates", total=self._trials, completed=self._done, left=left)
        return Group(bar, best_table(self._finished, self._rules))


def _error(trial: Any) -> BaseException | None:
    """What the candidate died of."""
    path: str | None = trial.pickled_error_file  # Tune wrote it here just now
    return cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None


def _cause(trial: Any) -> str:
    """A sentence: whether the process, its node or the code in it was at fault. Never values of the corpus."""
    error = _error(trial)
    if isinstance(error, RayActorError):
        found = [said for words, said in _DEATHS.items() if words in str(error)]
        return f"{PROCESS_DIED}: {found[0] if found else 'it was killed'}."
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    if error is None:
        return "A candidate ended, and Ray Tune does not say of what."
    return f"A candidate ended with {type(error).__name__}: {last_line(error)}."


def last_line(error: BaseException) -> str:
    """What an error of Ray's says, without the traceback that comes before it."""
    return (str(error).strip().splitlines() or [""])[-1][:300]
