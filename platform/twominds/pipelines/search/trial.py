"""One candidate of a search from its beginning to its outcome. Ray Tune runs this in processes; it needs none of it."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

from twominds.errors import TrainingError
from twominds.pipelines.search.candidate import SearchData, SeedResult, train_candidate
from twominds.pipelines.search.results import Outcome
from twominds.pipelines.search.store import SearchStore
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Candidate
from twominds.training.fit import EpochReport
from twominds.training.stopping import StoppingConfig, below_median, comparable, out_of_reach

SCORE = "score"
"""What a trial reports and a sampler goes by; not a number where the candidate can't be trained."""

Report = Callable[[dict[str, Any]], None]


class EndedEarlyError(Exception):
    """A rule ends the candidate."""

    def __init__(
        self,
        rule: Literal["reach", "median"],
        reason: str,
        *,
        unfinished: Sequence[EpochReport] = (),
        best: float | None = None,
    ) -> None:
        """Takes the rule, the sentence, the epochs of seeds that are broken off, and the best of the one that was."""
        super().__init__(reason)
        self.rule: Literal["reach", "median"] = rule
        self.unfinished, self.best = tuple(unfinished), best


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How candidates of a search are scored, and ended."""

    seeds: tuple[int, ...]
    """Those that every candidate is trained with."""
    std_penalty: float = 0.0
    """Of the objective."""
    stopping: StoppingConfig = field(default_factory=lambda: StoppingConfig(risk=0.0))
    """When a candidate is ended."""

    def rank(self, outcome: Outcome) -> tuple[float, float]:
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
        scores = [result.selection_mf1 for result in results]
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
        curve = list(accumulate((report.selection_mf1 for report in epochs), max))
        if below_median(curve, self._others[seed], after=self._rules.stopping.median_after):
            reason = f"After {len(epochs)} epochs of seed {seed} it was below the median of the candidates before it."
            done = {result.seed for result in self.results}  # on a GPU all seeds train at once, and all are broken off
            unfinished = [e for other, reports in self._epochs.items() if other not in done for e in reports]
            raise EndedEarlyError("median", reason, unfinished=unfinished, best=curve[-1])


def train_fusion(
    candidate: Candidate,
    watch: Watch,
    *,
    recipe: FusionRecipe,
    data: SearchData,
    run_uri: str,
    num_classes: int,
    device: str,
) -> None:
    """Trains a candidate of the fusion's search, for `run_trials`; seeds that are in storage are not trained again.

    Args:
        candidate: Its settings.
        watch: Is told of each epoch and seed.
        recipe: What is searched.
        data: What it is trained and selected on.
        run_uri: Folder of the search.
        num_classes: Number of logits.
        device: Where to train.
    """
    store = SearchStore(run_uri).candidate(candidate)
    train_candidate(
        candidate,
        recipe,
        data,
        store,
        num_classes=num_classes,
        device=device,
        on_seed=watch.on_seed,
        on_epoch=watch.on_epoch,
    )


def try_candidate(
    train: Callable[[Candidate, Watch], None], candidate: Candidate, store: SearchStore, rules: Rules, report: Report
) -> Outcome:
    """Trains a candidate, unless that has been done, and keeps what became of it.

    Args:
        train: Trains the seeds that are not in storage; tells the watch of each, in the order of the seeds.
        candidate: Its settings.
        store: The search.
        rules: How it is scored and ended.
        report: Is told of each seed, and of the end.

    Raises:
        OSError: storage is full or away. The candidate stays unfinished; what is trained is trained.
    """
    if known := store.outcome(candidate):
        report(report_of(known, scores_of_finished(store.outcomes()), rules.std_penalty))
        return known
    watch, began = Watch(store, rules, report), store.begin(candidate)
    outcome = Outcome(candidate=candidate, status="finished", results=(), began=began, over=0.0)
    try:
        train(candidate, watch)
    except EndedEarlyError as end:
        outcome = replace(
            outcome,
            status="ended",
            reason=str(end),
            rule=end.rule,
            unfinished_epochs=len(end.unfinished),
            unfinished_s=sum(epoch.seconds for epoch in end.unfinished),
            unfinished_mf1=end.best,
        )
    except TrainingError as error:  # it diverged, say: no accident that a second attempt escapes
        outcome = replace(outcome, status="failed", reason=str(error))
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = f"It needs more memory than there is ({str(error).splitlines()[0][:200]})."
        outcome = replace(outcome, status="failed", reason=reason)
    outcome = replace(outcome, results=tuple(watch.results), over=time.time())
    store.end(outcome)
    if outcome.status != "finished":
        report(report_of(outcome, scores_of_finished(store.outcomes()), rules.std_penalty))
    return outcome


def scores_of_finished(outcomes: Sequence[Outcome]) -> list[tuple[float, ...]]:
    """The scores of every candidate that has all its seeds."""
    return [outcome.scores for outcome in outcomes if outcome.status == "finished"]


def report_of(outcome: Outcome, finished: Sequence[Sequence[float]], std_penalty: float) -> dict[str, Any]:
    """What Ray Tune, and with it the sampler, is told of a candidate that is over.

    The best of a seed that was broken off stands for what that seed would have come to. A candidate that failed has no
    score: to a sampler it is an error, not a bad result.
    """
    scores = [*outcome.scores, *([] if outcome.unfinished_mf1 is None else [outcome.unfinished_mf1])]
    report = _report_of(scores, finished, std_penalty) | {"seeds_done": len(outcome.scores)}
    return report | ({SCORE: math.nan} if outcome.status == "failed" else {})


def _report_of(scores: Sequence[float], finished: Sequence[Sequence[float]], std_penalty: float) -> dict[str, Any]:
    if not scores:
        return {SCORE: math.nan, "mean_mf1": math.nan, "std_mf1": math.nan, "seeds_done": 0}
    return {
        SCORE: comparable(scores, finished, std_penalty),
        "mean_mf1": statistics.fmean(scores),
        "std_mf1": statistics.pstdev(scores),
        "seeds_done": len(scores),
    }


def _is_out_of_memory(error: BaseException) -> bool:
    """On a GPU (torch.OutOfMemoryError) or of the machine: torch has no type of its own for that."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
