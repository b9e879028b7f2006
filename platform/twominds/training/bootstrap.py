"""How sure a macro F1 is: percentile bootstrap over the people of a split, not over their videos.

A person's videos resemble each other, so a resample takes whole people (clusters): as many as there are, with
replacement. Every row of a table is scored on the same resamples, which pairs the rows (Efron and Tibshirani, "An
Introduction to the Bootstrap", chapters 13 and 16).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twominds.training.metrics import IntArray, IntLike, macro_f1

RESAMPLES = 2000
SEED = 2025

Interval = tuple[float, float]
"""Lower and upper bound of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A macro F1 in [0, 1] and how sure it is."""

    value: float
    """Of the clips as they are, not the mean of the resamples."""
    interval: Interval | None
    """None with fewer than two people: there is nothing to resample."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What one row's macro F1 has over another's on the same clips."""

    value: float
    interval: Interval | None
    p_value: float | None
    """Two-sided, of no difference; at least 2 / (resamples + 1), and not adjusted for the number of comparisons."""


class PeopleBootstrap:
    """Resamples of the people of N labelled clips, the same for every row that is asked for."""

    def __init__(
        self,
        labels: IntLike,
        people: Sequence[str | None],
        num_classes: int,
        *,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        """Draws the resamples.

        Args:
            labels: True classes [N].
            people: Who is in each clip [N]; a clip of nobody known (None) counts as a person of its own.
            num_classes: C, as for `macro_f1`.
            resamples: How many, B.
            seed: Of the draws.
        """
        self._labels, self._classes = np.asarray(labels, dtype=np.int64), num_classes
        names = [("clip", str(i)) if person is None else ("person", person) for i, person in enumerate(people)]
        codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
        self._codes = np.array([codes[name] for name in names], dtype=np.int64)
        self.people = len(codes)
        """How many, P."""
        draws = np.random.default_rng(seed).multinomial(
            self.people, np.full(self.people, 1 / max(self.people, 1)), size=resamples
        )
        self.times: IntArray = draws.astype(np.int64)
        """How often each person, in the order of first appearance, is in each resample: [B, P]."""

    def estimate(self, predictions: IntArray) -> Estimate:
        """Macro F1, mean over the models, with its interval.

        Args:
            predictions: Of S models [S, N].
        """
        return Estimate(value=self._mean_macro_f1(predictions), interval=self._interval(self._scores(predictions)))

    def difference(self, predictions: IntArray, reference: IntArray) -> Difference:
        """What the first row has over the second, on the same resamples; the rows may differ in how many models."""
        value = self._mean_macro_f1(predictions) - self._mean_macro_f1(reference)
        # Rounded, so that the mean of several equal models ties with one of them.
        differences = np.round(self._scores(predictions) - self._scores(reference), 12)
        interval = self._interval(differences)
        # A resample that is neither above nor below speaks for no difference on both sides, and one more is the data.
        tails = (1 + np.sum(differences <= 0), 1 + np.sum(differences >= 0))
        p_value = None if interval is None else min(1.0, 2 * float(min(tails)) / (len(differences) + 1))
        return Difference(value=value, interval=interval, p_value=p_value)

    def _mean_macro_f1(self, predictions: IntArray) -> float:
        return float(np.mean([macro_f1(self._labels, row, self._classes) for row in predictions]))

    def _scores(self, predictions: IntArray) -> npt.NDArray[np.float64]:
        """Mean over the models of macro F1 in every resample [B].

        F1 = 2 TP / (true + predicted) per class, and both counts add up over people: one product with how often each
        is drawn. Counts are whole numbers far below 2^53, so float64 (which has a fast product) is exact.
        """
        classes = np.arange(self._classes)
        truth = self._labels[:, None] == classes  # [N, C]
        scores = np.zeros(len(self.times))
        for row in predictions:
            guess = row[:, None] == classes
            counts = np.zeros((self.people, 2 * self._classes))
            np.add.at(counts, self._codes, np.hstack([2.0 * (truth & guess), 1.0 * truth + guess]))
            hits, total = np.hsplit(self.times.astype(np.float64) @ counts, 2)
            scores += (hits / np.maximum(total, 1)).mean(axis=1)
        return scores / len(predictions)

    def _interval(self, values: npt.NDArray[np.float64]) -> Interval | None:
        if self.people < 2:
            return None
        low, high = np.percentile(values, [2.5, 97.5])
        return float(low), float(high)
