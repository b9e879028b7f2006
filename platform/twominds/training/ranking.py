"""How well probabilities put positive points before negative ones: average precision, of which there are two.

Both see the whole ranking, so they have no threshold, and neither is a mean over points: they are resampled by people
from counts above each threshold. A constant answer gets the share of positives from the first.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from twominds.training.metrics import IntArray, Numbers

THRESHOLDS = 1000
"""Of the challenge's curve, evenly from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """sum (R_n - R_(n-1)) P_n over all distinct probabilities: scikit-learn's. 0 without a positive point."""

    name: str = "average_precision"

    def __call__(self, truths: npt.ArrayLike, answers: npt.ArrayLike, known: npt.ArrayLike | None = None) -> float:
        """Of labels 0 and 1 [P] and probabilities of 1 [P]; points that are not `known` weigh nothing."""
        from sklearn import metrics

        truth, answer = _known(truths, answers, known)
        return float(cast(Any, metrics).average_precision_score(truth, answer)) if truth.any() else 0.0

    def resampled(
        self, truths: npt.NDArray[Any], answers: npt.NDArray[Any], owners: IntArray, times: Numbers
    ) -> Numbers:
        """See `Metric.resampled`: the same sum with each point as often as its person is drawn."""
        order = np.argsort(-answers, kind="stable")
        ranked, last = answers[order], np.ones(len(order), np.bool_)
        last[:-1] = ranked[1:] != ranked[:-1]  # of equal probabilities only all together are a threshold
        positive, owner = truths[order].astype(np.float64), owners[order]
        scores = np.zeros(len(times))
        for row, often in enumerate(times):
            weights = often[owner]
            hits, found = np.cumsum(weights * positive)[last], np.cumsum(weights)[last]
            precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
            scores[row] = (np.diff(hits, prepend=0.0) * precision).sum() / max(hits[-1], 1e-300) if len(hits) else 0.0
        return scores


@dataclass(frozen=True, kw_only=True)
class ChallengeAveragePrecision:
    """The area under precision over recall at 1000 thresholds, by the trapezoidal rule: as the BAH challenge has it.

    A point is taken for positive from the threshold on; where none is, precision is 1. It is not scikit-learn's: the
    trapezoids promise too much between the thresholds, and probabilities closer than .001 are one.
    """

    name: str = "average_precision_1000"

    def __call__(self, truths: npt.ArrayLike, answers: npt.ArrayLike, known: npt.ArrayLike | None = None) -> float:
        """Of labels 0 and 1 [P] and probabilities of 1 [P]; points that are not `known` weigh nothing."""
        truth, answer = _known(truths, answers, known)
        return float(self.resampled(truth, answer, np.zeros(len(truth), np.int64), np.ones((1, 1)))[0])

    def resampled(
        self, truths: npt.NDArray[Any], answers: npt.NDArray[Any], owners: IntArray, times: Numbers
    ) -> Numbers:
        """See `Metric.resampled`: counts above each threshold add up over people."""
        passed = np.searchsorted(np.linspace(0, 1, THRESHOLDS), answers, side="right")  # how many thresholds
        places = owners * (THRESHOLDS + 1) + passed
        shape = times.shape[1], THRESHOLDS + 1
        of_people = [
            np.bincount(places, weights=which, minlength=shape[0] * shape[1]).reshape(shape)
            for which in (truths == 1, truths != 1)
        ]
        # At threshold k are those that passed more than k of them, from the highest threshold down.
        hits, false = (np.cumsum((times @ counts)[:, :0:-1], axis=1) for counts in of_people)
        found, positives = hits + false, (times @ of_people[0]).sum(axis=1, keepdims=True)
        precision = np.divide(hits, found, out=np.ones_like(hits), where=found > 0)
        recall = np.divide(hits, positives, out=np.zeros_like(hits), where=positives > 0)
        return np.trapezoid(precision, recall, axis=1)


def _known(
    truths: npt.ArrayLike, answers: npt.ArrayLike, known: npt.ArrayLike | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    truth, answer = np.asarray(truths), np.asarray(answers, np.float64)
    if truth.shape != answer.shape:
        raise ValueError(f"{len(truth)} labels but {len(answer)} probabilities")
    if known is None:
        return truth, answer
    chosen = np.asarray(known, np.bool_)
    return truth[chosen], answer[chosen]
