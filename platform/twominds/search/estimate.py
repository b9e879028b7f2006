"""About how long a search will take, from what its candidates took so far or from a few epochs that are tried out."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Candidate, draw
from twominds.search.candidate import new_model
from twominds.search.inputs import SearchData
from twominds.search.outcomes import Outcome
from twominds.training.examples import FusionExamples
from twominds.training.fit import fit
from twominds.training.objective import Objective
from twominds.training.selection import SelectionView

PROBES = 4
"""Candidates that are tried out for an epoch: the first one, and as the sampler would start, at random."""


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """Hours of training, candidates one after another."""

    low_h: float
    high_h: float
    basis: str
    """What it rests on."""


def estimate(
    fusion: FusionRecipe, data: SearchData, over: Sequence[Outcome], left: int, *, objective: Objective
) -> TimeEstimate:
    """Time that the candidates which are left will take.

    Args:
        fusion: What is searched.
        data: What it is trained and selected on.
        over: Candidates that are over; if there are any, the others are taken to be like them.
        left: Candidates to come.
        objective: The task's.
    """
    spent = [outcome.trained_s for outcome in over if outcome.results]
    if spent:
        mean = statistics.fmean(spent)
        error = 2 * statistics.stdev(spent) / len(spent) ** 0.5 if len(spent) > 1 else mean
        low, high = left * max(0.0, mean - error) / 3600, left * (mean + error) / 3600
        return TimeEstimate(low_h=low, high_h=high, basis=f"by the {len(spent)} candidates that are over")
    per_epoch = statistics.fmean(_seconds_per_epoch(fusion, data, objective))
    trainings = left * len(fusion.seeds)
    shortest = min(fusion.fit.epochs, fusion.fit.min_epochs + fusion.fit.patience + 1)
    return TimeEstimate(
        low_h=trainings * shortest * per_epoch / 3600,
        high_h=trainings * fusion.fit.epochs * per_epoch / 3600,
        basis=f"{per_epoch:.2f} s an epoch, the mean of {PROBES} candidates tried out here on one CPU; {shortest} to "
        f"{fusion.fit.epochs} epochs a seed, none ended early",
    )


def _seconds_per_epoch(fusion: FusionRecipe, data: SearchData, objective: Objective) -> list[float]:
    rng = np.random.default_rng(0)
    first: list[Candidate] = [dict(point) for point in fusion.first_points[:1]]
    candidates = first + [draw(fusion.space, rng) for _ in range(PROBES - len(first))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        examples = data.map(lambda split: FusionExamples(split.inputs, split.labels))
        return [_seconds_of_one(fusion.with_candidate(c), examples, objective) for c in candidates]
    finally:
        torch.set_num_threads(threads)


def _seconds_of_one(fusion: FusionRecipe, examples: SelectionView[FusionExamples], objective: Objective) -> float:
    train = examples.train
    model = new_model(fusion, train, objective, seed=0)
    settings = replace(fusion.fit, epochs=1)
    started = time.perf_counter()
    fit(model, train, examples.validation, settings, seed=0, loss=fusion.loss, objective=objective)
    return time.perf_counter() - started
