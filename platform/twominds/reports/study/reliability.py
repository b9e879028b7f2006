"""Whether probabilities of two classes mean what they say."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twominds.training.metrics import IntArray

BINS = 10
"""How many bins of equal width the reliability diagram has."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often the last class is there when its probability says so; all models' answers together."""

    counts: tuple[int, ...]
    """Answers per bin."""
    probability: tuple[float | None, ...]
    """Mean probability per bin; None where the bin is empty."""
    frequency: tuple[float | None, ...]
    """Share of the last class per bin."""
    ece: float | None
    """Expected calibration error: mean distance of the two, weighted by the counts."""
    unseen: int
    """Answers without a probability."""


def reliability(probabilities: npt.NDArray[np.float64], truth: IntArray) -> Reliability:
    """The reliability diagram in ten bins of equal width (the last one closed).

    Args:
        probabilities: Of the last of two classes [S, N]; NaN where there is no answer.
        truth: 0 or 1 [N].
    """
    probability, positive = probabilities.ravel(), np.tile(truth == 1, len(probabilities))
    known = ~np.isnan(probability)
    probability, positive = probability[known], positive[known]
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (probability, positive.astype(np.float64)))
    mean, share = ([float(s / n) if n else None for s, n in zip(values, counts, strict=True)] for values in sums)
    gaps = [n * abs(p - f) for n, p, f in zip(counts, mean, share, strict=True) if p is not None and f is not None]
    return Reliability(
        counts=tuple(counts.tolist()),
        probability=tuple(mean),
        frequency=tuple(share),
        ece=float(sum(gaps) / len(probability)) if len(probability) else None,
        unseen=int(np.sum(~known)),
    )
