"""Candidates of a search from begin to outcome.

Ray Tune runs this in processes of its own. Each pays for what is imported here: no Ray, and no sampler.
"""

import math
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch

from twominds.errors import TrainingError
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Candidate, candidates_of
from twominds.search.candidate import EndedEarlyError, SeedResult, is_out_of_memory, train_candidates
from twominds.search.inputs import SearchData
from twominds.search.outcomes import Outcome
from twominds.search.store import SearchStore
from twominds.training.fit import EpochReport
from twominds.training.objective import Objective
from twominds.training.stopping import StoppingConfig, below_median, comparable, out_of_reach

SCORE = "score"
"""What a trial reports and a sampler goes by; not a number where the candidate can't be trained."""

Report = Callable[[dict[str, Any]], None]

Train = Callable[[Sequence[Candidate], Sequence["Watch"]], Sequence[Exception | None]]
"""Trains the seeds of candidates that are not in storage; tells each one's watch of them, in the order of the seeds.

Returns for each candidate what ended it (EndedEarlyError, TrainingError), if anything did. Where there is one
candidate that may be raised as well.
"""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How candidates of a search are scored, and ended."""

    seeds: tuple[int, ...]
    """Those that every candidate is trained with."""
    std_penalty: float = 0.0
    """How many standard deviations over the seeds the objective takes off the mean."""
    stopping: StoppingConfig = field(default_factory=lambda: StoppingConfig(risk=0.0))
    """When a candidate is ended."""
    score_name: str = "MF1"
    """What people call the metric."""

    def rank(self, outcome: Outcome) -> tuple[float, float, float]:
        """What the best finished candidate has the most of."""
        return outcome.rank(self.std_penalty)


class Watch:
    """Looks on while a candidate is trained: reports each seed, and ends it where the rules say so."""

    def __init__(self, store: SearchStore, rules: Rules, report: Report) -> None:
        """Takes the search, its rules, and who is told of each seed."""
        self.results: list[SeedResult] = []
        self._store, self._rules, self._report = store, rules, report
        self._epochs: dict[int, list[EpochReport]] = {}
        self._others: dict[int, list[tuple[float, ...]]] = {}

    def on_seed(self, results: Sequence[SeedResult]) -> None:
        """Another seed is done.

        Raises:
            EndedEarlyError: the candidate can't win any more.
        """
        self.results = list(results)
        outcomes, rules = self._store.outcomes(), self._rules
        scores = [result.selection_score for result in results]
        finished = scores_of_finished(outcomes)
        self._report(_report_of(scores, finished, rules.std_penalty))
        if out_of_reach(scores, finished, risk=rules.stopping.risk, std_penalty=rules.std_penalty):
            raise EndedEarlyError(
                "reach",
                f"After {len(scores)} of {len(rules.seeds)} seeds it could not be expected to reach the best any more.",
            )

    def on_epoch(self, seed: int, epoch: EpochReport) -> None:
        """Another epoch of a seed is done.

        Raises:
            EndedEarlyError: it is below the median of the others.
        """
        epochs = self._epochs.setdefault(seed, [])
        epochs.append(epoch)
        if not self._rules.stopping.median_after:
            return
        if seed not in self._others:  # those that are over when this seed begins
            results = [result for outcome in self._store.outcomes() for result in outcome.results]
            self._others[seed] = [result.curve for result in results if result.seed == seed and result.curve]
        curve = list(accumulate((report.selection_score for report in epochs), max))
        if below_median(curve, self._others[seed], after=self._rules.stopping.median_after):
            reason = f"After {len(epochs)} epochs of seed {seed} it was below the median of the candidates before it."
            raise EndedEarlyError("median", reason, best=curve[-1])

    def broken_off(self, done: Collection[int]) -> list[EpochReport]:
        """The epochs of seeds that were begun here and are not among those that are done."""
        return [epoch for seed, epochs in self._epochs.items() if seed not in done for epoch in epochs]


def run_trial(settings: dict[str, Any], *, fixed: dict[str, Any], report: Report, **parameters: Any) -> None:
    """One trial of Ray Tune's, in a process of its own: see `try_candidates`.

    Args:
        settings: What was drawn, in Tune's words.
        fixed: What is the same for all trials of the search, by name.
        report: Ray Tune's.
        **parameters: Given to `train`.
    """
    torch.set_num_threads(max(1, int(fixed["cpus"])))
    train = partial(fixed["train"], **parameters)
    candidates = candidates_of(settings, fixed["space"])
    try_candidates(train, candidates, SearchStore(fixed["store_uri"]), fixed["rules"], report)


def train_fusion(
    candidates: Sequence[Candidate],
    watches: Sequence[Watch],
    *,
    recipe: FusionRecipe,
    data: SearchData,
    run_uri: str,
    objective: Objective,
    device: str,
) -> list[Exception | None]:
    """Trains candidates of the fusion's search: see `Train`.

    Args:
        candidates: Settings that replace the recipe's.
        watches: For each candidate, what is told of its epochs and seeds.
        recipe: What is searched.
        data: What it is trained and selected on.
        run_uri: Folder of the search.
        objective: What the task's models are trained for and judged by.
        device: Where to train.
    """
    store = SearchStore(run_uri)
    stores = [store.candidate(candidate) for candidate in candidates]
    return train_candidates(
        candidates, watches, recipe=recipe, data=data, stores=stores, objective=objective, device=device
    )


def try_candidates(
    train: Train, candidates: Sequence[Candidate], store: SearchStore, rules: Rules, report: Report
) -> None:
    """Trains candidates, unless that has been done, and keeps what became of each.

    Args:
        train: What trains them (`Train`).
        candidates: Settings that replace the recipe's.
        store: Where the search keeps what became of each.
        rules: How they are scored and ended.
        report: Is told of each seed, and of each end.

    Raises:
        OSError: storage is full or away. The candidates stay unfinished; what is trained is trained.
    """
    fresh = [c for i, c in enumerate(candidates) if c not in candidates[:i] and store.outcome(c) is None]
    if len(fresh) > 1 and any(store.begun(candidate) for candidate in fresh):
        # Their process died, perhaps of being too large together, or of one of them.
        for candidate in candidates:
            try_candidates(train, [candidate], store, rules, report)
        return
    watches, began = [Watch(store, rules, report) for _ in fresh], [store.begin(candidate) for candidate in fresh]
    try:
        ends: Sequence[Exception | None] = train(fresh, watches) if fresh else []
    except (EndedEarlyError, TrainingError) as error:
        if len(fresh) > 1:
            raise
        ends = [error]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ends = [error] if len(fresh) == 1 else []
    if not ends and fresh:
        # Together they are too large, perhaps each is not. (Not while the error is held, and with it their memory.)
        for candidate in candidates:
            try_candidates(train, [candidate], store, rules, report)
        return
    for candidate, watch, at, end in zip(fresh, watches, began, ends, strict=True):
        if store.outcome(candidate) is None:  # it never changes
            failed = end is not None and not isinstance(end, EndedEarlyError)
            # One that is ended is compared by its first seeds. One that failed has all that were trained beside others.
            kept = store.results(candidate, rules.seeds) if failed else ()
            results = [*watch.results, *(result for result in kept if result not in watch.results)]
            store.end(_outcome(candidate, watch, at, end, results))
    for candidate in candidates:
        outcome = store.outcome(candidate)
        # A fresh one's last seed has been reported.
        if outcome is not None and (candidate not in fresh or outcome.status != "finished"):
            report(report_of(outcome, scores_of_finished(store.outcomes()), rules.std_penalty))


def _outcome(
    candidate: Candidate, watch: Watch, began: float, end: Exception | None, results: Sequence[SeedResult]
) -> Outcome:
    """What became of a candidate, by what ended it and the results of its seeds."""
    broken_off = watch.broken_off([result.seed for result in results])
    outcome = Outcome(
        candidate=candidate,
        status="finished",
        results=tuple(results),
        unfinished_epochs=len(broken_off),
        unfinished_s=sum(epoch.seconds for epoch in broken_off),
        began=began,
        over=time.time(),
    )
    if end is None:
        return outcome
    if isinstance(end, EndedEarlyError):
        return replace(outcome, status="ended", reason=str(end), rule=end.rule, unfinished_score=end.best)
    # A training that diverged, say: no accident that a second attempt escapes.
    reason = str(end)
    if not isinstance(end, TrainingError):
        reason = f"It needs more memory than there is ({(reason.splitlines() or [''])[0][:200]})."
    return replace(outcome, status="failed", reason=reason)


def scores_of_finished(outcomes: Sequence[Outcome]) -> list[tuple[float, ...]]:
    """The scores of every candidate that has all its seeds."""
    return [outcome.scores for outcome in outcomes if outcome.status == "finished"]


def report_of(outcome: Outcome, finished: Sequence[Sequence[float]], std_penalty: float) -> dict[str, Any]:
    """What Ray Tune, and with it the sampler, is told of a candidate that is over.

    The best of a seed that was broken off stands for what that seed would have come to. A candidate that failed has no
    score: to a sampler it is an error, not a bad result.
    """
    scores = [*outcome.scores, *([] if outcome.unfinished_score is None else [outcome.unfinished_score])]
    report = _report_of(scores, finished, std_penalty) | {"seeds_done": len(outcome.scores)}
    return report | ({SCORE: math.nan} if outcome.status == "failed" else {})


def _report_of(scores: Sequence[float], finished: Sequence[Sequence[float]], std_penalty: float) -> dict[str, Any]:
    if not scores:
        return {SCORE: math.nan, "mean_score": math.nan, "std_score": math.nan, "seeds_done": 0}
    return {
        SCORE: comparable(scores, finished, std_penalty),
        "mean_score": statistics.fmean(scores),
        "std_score": statistics.pstdev(scores),
        "seeds_done": len(scores),
    }
