"""Weights of an ensemble's members, fitted on validation: those whose blend scores best.

A blend is judged as it is served: of classes the decided ones, of intensities the numbers. HSEmotion weighs each
emotion by itself (`per_output`); ConflictAware weighs a text head against the whole model.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from twominds.errors import ConfigError
from twominds.scoring.decision import Decision
from twominds.scoring.members import weighted_mean
from twominds.training.metrics import Metric

MOST_BY_GRID = 4
"""Members of which all combinations are tried; of more, one weight after another."""

ROUNDS = 20
"""Passes over members, or over outputs, that a search takes at most; it ends sooner where nothing gets better."""

Outputs = npt.NDArray[np.float64]
Judge = Callable[[Outputs], float]
"""From weights [S] of the members to the score of their blend; minus infinity where it says nothing of a point."""


def fit_weights(
    outputs: Outputs,
    truth: npt.NDArray[Any],
    metric: Metric,
    *,
    step: float = 0.05,
    per_output: bool = False,
    decisions: Sequence[Decision] = (),
) -> tuple[float, ...] | tuple[tuple[float, ...], ...]:
    """The weight of each member in the best blend; of equally good ones the most equal.

    Args:
        outputs: What S members say of N points [S, N, K]; NaN where one sees nothing of a point. Points of which nobody
            says anything do not count.
        truth: Classes [N], or intensities [N, K].
        metric: The task's.
        step: Between two weights that are tried.
        per_output: A weight for each output rather than one for all: each output's are fitted in turn while the others
            are held, beginning with the best common ones.
        decisions: What may make classes of probabilities, such as one for each threshold: a blend is worth what the
            best of them makes of it. None given: the most probable class is the answer.

    Returns:
        For each member its weight, as `Member.weight` takes it: together they make 1, for each output.

    Raises:
        ConfigError: the step is no part of 1.
    """
    if not 0 < step <= 1 or abs(round(1 / step) * step - 1) > 1e-9:
        raise ConfigError(f"step must be a whole part of 1, such as 0.05, got {step}.")
    said = ~np.isnan(outputs).any(axis=-1).all(axis=0)
    outputs, truth, decisions = outputs[:, said], truth[said], decisions or (Decision(),)
    members, _, of_point = outputs.shape

    def score(weights: Outputs) -> float:
        """The metric that weights [S] or [S, K] come to."""
        blend = weighted_mean(outputs, [_listed(of_member) for of_member in weights])
        if np.isnan(blend).any():
            return -np.inf
        if truth.ndim > 1:
            return metric(truth, blend)
        return max(metric(truth, decision.classes(blend)) for decision in decisions)

    common = _search(members, score, step)
    if not per_output:
        return tuple(float(weight) for weight in common.tolist())
    each = np.repeat(common[:, None], of_point, axis=1)
    best = score(each)
    for _ in range(ROUNDS):
        before = best
        for column in range(of_point):

            def of_column(weights: Outputs, column: int = column) -> float:
                tried = each.copy()
                tried[:, column] = weights
                return score(tried)

            each[:, column] = _search(members, of_column, step)
            best = score(each)
        if best <= before + 1e-12:
            break
    return tuple(tuple(float(weight) for weight in row) for row in each.tolist())


def _listed(weight: Outputs) -> float | tuple[float, ...]:
    """One number, or one for each output, as `Member.weight` takes it."""
    found: Any = weight.tolist()
    return cast("float | tuple[float, ...]", tuple(found) if weight.ndim else found)


def _search(members: int, judge: Judge, step: float) -> Outputs:
    """The best weights [S] by a grid, or of many members by coordinates."""
    equal = np.full(members, 1 / members)
    if members <= MOST_BY_GRID:
        return _best([equal, *_simplex(members, round(1 / step))], judge)
    found = equal
    for _ in range(ROUNDS):
        before = found
        for member in range(members):
            found = _best([found, *_along(found, member, step)], judge, first=found)
        if found is before:
            break
    return found


def _best(candidates: Sequence[Outputs], judge: Judge, first: Outputs | None = None) -> Outputs:
    """The candidate with the best score; of equals `first`, else the most equal one. Rounding makes no difference."""
    ordered = sorted(candidates, key=lambda weights: (weights is not first, float(np.square(weights).sum())))
    found, best = ordered[0], judge(ordered[0])
    for weights in ordered[1:]:
        if (score := judge(weights)) > best + 1e-12:
            found, best = weights, score
    return found


def _simplex(members: int, parts: int) -> Iterator[Outputs]:
    """All weights [S] that are whole parts and make 1."""
    for bars in combinations(range(parts + members - 1), members - 1):
        edges = np.array([-1, *bars, parts + members - 1])
        yield (np.diff(edges) - 1) / parts


def _along(weights: Outputs, member: int, step: float) -> Iterator[Outputs]:
    """Weights with another share of one member; the others keep their proportions."""
    rest = np.where(np.arange(len(weights)) == member, 0.0, weights)
    if rest.sum() == 0:
        rest = np.where(np.arange(len(weights)) == member, 0.0, 1.0)
    for share in np.linspace(0, 1, round(1 / step) + 1):
        moved = rest / rest.sum() * (1 - share)
        moved[member] = share
        yield moved
