"""How sure a score is: percentile bootstrap over the people of a split, not over their videos.

A person's videos resemble each other, so a resample takes whole people (clusters): as many as there are, with
replacement. Every row of a table is scored on the same resamples, which pairs the rows (Efron and Tibshirani, "An
Introduction to the Bootstrap", chapters 13 and 16).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twominds.training.metrics import IntArray, Numbers

RESAMPLES = 2000
SEED = 2025

Interval = tuple[float, float]
"""Lower and upper bound of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score and how sure it is."""

    value: float
    """The score of the points as they are, not the mean of the resamples."""
    interval: Interval | None
    """None with fewer than two people: there is nothing to resample."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What one row's score has over another's on the same points."""

    value: float
    interval: Interval | None
    p_value: float | None
    """Two-sided, of no difference; at least 2 / (resamples + 1), and not adjusted for the number of comparisons."""


class Resampled(Protocol):
    """A score that can be had of resampled people: `metrics.Metric`, or one of `ranking`."""

    def __call__(self, truths: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """The score of all points together."""
        ...

    def resampled(
        self, truths: npt.NDArray[Any], answers: npt.NDArray[Any], owners: IntArray, times: Numbers
    ) -> Numbers:
        """The score in each resample; see `Metric.resampled`."""
        ...


class PeopleBootstrap:
    """Resamples of the people of N labelled points, the same for every row that is asked for."""

    def __init__(
        self,
        truths: npt.ArrayLike,
        people: Sequence[str],
        metric: Resampled,
        *,
        known: npt.ArrayLike | None = None,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        """Draws the resamples.

        Args:
            truths: True classes [N], or intensities [N, K].
            people: Who is in each point [N]; where nobody is known, whose points belong together: the clip's.
            metric: What rows are scored by.
            known: Which truths somebody annotated [N]; the others weigh nothing, nor do people without any. None: all.
            resamples: B, the number of resamples.
            seed: Seed of the draws.
        """
        self._known = np.ones(len(people), np.bool_) if known is None else np.asarray(known, np.bool_)
        self._truths, self._metric = np.asarray(truths)[self._known], metric
        names = [person for person, known in zip(people, self._known, strict=True) if known]
        codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
        self._codes = np.array([codes[name] for name in names], dtype=np.int64)
        self.people = len(codes)
        """P, the number of people."""
        draws = np.random.default_rng(seed).multinomial(
            self.people, np.full(self.people, 1 / max(self.people, 1)), size=resamples
        )
        self.times: IntArray = draws.astype(np.int64)
        """How often each person, in the order of first appearance, is in each resample: [B, P]."""

    def estimate(self, predictions: npt.NDArray[Any]) -> Estimate:
        """The score, mean over the models, with its interval.

        Args:
            predictions: Of S models [S, N], or [S, N, K].
        """
        return Estimate(value=self._mean_score(predictions), interval=self._interval(self._scores(predictions)))

    def difference(self, predictions: npt.NDArray[Any], reference: npt.NDArray[Any]) -> Difference:
        """What the first row has over the second, on the same resamples; the rows may differ in how many models."""
        value = self._mean_score(predictions) - self._mean_score(reference)
        # Rounded, so that the mean of several equal models ties with one of them.
        differences = np.round(self._scores(predictions) - self._scores(reference), 12)
        interval = self._interval(differences)
        # A resample that is neither above nor below speaks for no difference on both sides, and one more is the data.
        tails = (1 + np.sum(differences <= 0), 1 + np.sum(differences >= 0))
        p_value = None if interval is None else min(1.0, 2 * float(min(tails)) / (len(differences) + 1))
        return Difference(value=value, interval=interval, p_value=p_value)

    def _mean_score(self, predictions: npt.NDArray[Any]) -> float:
        return float(np.mean([self._metric(self._truths, row[self._known]) for row in predictions]))

    def _scores(self, predictions: npt.NDArray[Any]) -> Numbers:
        """Mean over the models of the score in every resample [B]."""
        scores, times = np.zeros(len(self.times)), self.times.astype(np.float64)
        for row in predictions:
            scores += self._metric.resampled(self._truths, row[self._known], self._codes, times)
        return scores / len(predictions)

    def _interval(self, values: Numbers) -> Interval | None:
        if self.people < 2:
            return None
        low, high = np.percentile(values, [2.5, 97.5])
        return float(low), float(high)
