"""From a model's outputs to an answer, in steps: calibrate, clamp, smooth, overrule, threshold, filter, abstain.

Each step is JSON, and is fitted on validation labels alone where it has something to fit; all are saved with the
ensemble. Calibration works on every member's outputs, the others on the ensemble's weighted mean, in this order however
they are listed. A decision without steps changes nothing: softmax, threshold 0.5, always an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Discriminator

from twominds.errors import ConfigError
from twominds.records import BoolArray, Times
from twominds.training.metrics import IntArray

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Make class probabilities mean what they say (Platt 1999; Guo et al. 2017)."""

    kind: Literal["calibrate"] = "calibrate"
    temperature: float = 1.0
    """Divides every member's logits; above 1 makes the probabilities more cautious."""
    bias: float = 0.0
    """Added to the last class's logit after the temperature (Platt scaling; two classes)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}.")
        if not np.isfinite(self.bias):
            raise ConfigError(f"bias must be a finite number, got {self.bias}.")


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """Keep intensities within what an annotator can say."""

    kind: Literal["clamp"] = "clamp"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigError where there is nothing between the bounds."""
        if not self.low < self.high:
            raise ConfigError(f"clamp goes from low to high, got {self.low} to {self.high}.")


@dataclass(frozen=True, kw_only=True)
class Smooth:
    """Average the outputs of neighbouring points: what is said of a face changes slower than what is seen of it."""

    kind: Literal["smooth"] = "smooth"
    kernel: Literal["mean", "gaussian", "median"] = "mean"
    """A moving average, a Gaussian whose standard deviation is half the radius, or a moving median."""
    radius: float = 0.5
    """How far to either side."""
    unit: Literal["s", "points"] = "s"
    """Whether the radius is in seconds or in points. At the ends of a clip there are fewer neighbours."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.radius < 0:
            raise ConfigError(f"smooth.radius must be 0 or more, got {self.radius}.")


@dataclass(frozen=True, kw_only=True)
class Overrule:
    """Let a member of the ensemble that has no weight in the mean decide where it is sure (HSEmotion's two filters).

    Where that member says nothing, nothing is overruled.
    """

    kind: Literal["overrule"] = "overrule"
    member: str = ""
    """Name of the member; what it says is smoothed as the mean is. Empty: nobody overrules."""
    when: Literal["confident", "negative"] = "confident"
    """`confident`: where its largest probability is above `confidence`, its answer takes the place of the mean.
    `negative`: of two classes, where it does not say the last one, that one's probability is 0."""
    confidence: float = 0.7
    """From which probability on, that one excluded, it is `confident`."""
    never: tuple[int, ...] = ()
    """Classes that it does not overrule with: HSEmotion's faces know no Other."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the setting is out of range."""
        if not 0 < self.confidence < 1:
            raise ConfigError(f"overrule.confidence must be in (0, 1), got {self.confidence}.")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The probability of the last of two classes from which it is the answer."""

    kind: Literal["threshold"] = "threshold"
    value: float = 0.5

    def __post_init__(self) -> None:
        """Raise ConfigError where the setting is out of range."""
        if not 0 < self.value < 1:
            raise ConfigError(f"threshold must be in (0, 1), got {self.value}.")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Leave out what is too short to be.

    First gaps between stretches of the last of two classes are filled, then stretches of it are dropped.
    """

    kind: Literal["filter"] = "filter"
    longest_gap_s: float = 0.0
    """Gaps up to this long are filled; 0: none."""
    shortest_s: float = 0.0
    """Stretches shorter than this are dropped; 0: none."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.longest_gap_s < 0 or self.shortest_s < 0:
            raise ConfigError("filter.longest_gap_s and filter.shortest_s must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Abstain:
    """Leave answers that are too near to the threshold to a person."""

    kind: Literal["abstain"] = "abstain"
    band: float = 0.0
    """A probability less than this from the threshold is no answer to act upon; 0: none."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the setting is out of range."""
        if not 0 <= self.band <= 1:
            raise ConfigError(f"abstain band must be in [0, 1], got {self.band}.")


Step = Calibrate | Clamp | Smooth | Overrule | Threshold | Filter | Abstain
StepT = TypeVar("StepT", Calibrate, Clamp, Smooth, Overrule, Threshold, Filter, Abstain)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How outputs are made an answer. Without steps they are as they are."""

    steps: tuple[Annotated[Step, Discriminator("kind")], ...] = ()
    """At most one of a kind."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a step is there twice."""
        kinds = [step.kind for step in self.steps]
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"A decision takes each step once, got {', '.join(kinds)}.")

    def step(self, kind: type[StepT]) -> StepT:
        """The step of a kind; where there is none, one that changes nothing."""
        return next((step for step in self.steps if isinstance(step, kind)), kind())

    def has(self, kind: type[Step]) -> bool:
        """Whether there is a step of the kind."""
        return any(isinstance(step, kind) for step in self.steps)

    def with_step(self, step: Step) -> "Decision":
        """The same with this step in place of the one of its kind."""
        return replace(self, steps=(*(other for other in self.steps if other.kind != step.kind), step))

    @property
    def threshold(self) -> float:
        """Probability of the last of two classes from which it is the answer."""
        return self.step(Threshold).value

    @property
    def abstain_band(self) -> float:
        """How near to it a probability is no answer."""
        return self.step(Abstain).band

    def probabilities(self, logits: npt.ArrayLike) -> Array:
        """Calibrated class probabilities [..., C] of logits [..., C] (of each member: average afterwards)."""
        calibrate = self.step(Calibrate)
        scaled = np.asarray(logits, dtype=np.float64) / calibrate.temperature
        scaled[..., -1] += calibrate.bias
        exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    def over_time(self, outputs: Array, points_s: Times | None, by_member: Mapping[str, Array] | None = None) -> Array:
        """The ensemble's outputs [P, K], smoothed where they have times, overruled and clamped.

        Args:
            outputs: What is said of a clip's points.
            points_s: Their times; None: there is one, the whole clip.
            by_member: What each member says [P, K], NaN where nothing: for who overrules.
        """
        smooth = self.step(Smooth)
        if points_s is not None and self.has(Smooth):
            outputs = smoothed(outputs, points_s, smooth)
        judge = (by_member or {}).get(self.step(Overrule).member)
        if judge is not None:
            if points_s is not None and self.has(Smooth):
                judge = smoothed(judge, points_s, smooth)
            outputs = overruled(outputs, judge, self.step(Overrule))
        if self.has(Clamp):
            clamp = self.step(Clamp)
            outputs = np.clip(outputs, clamp.low, clamp.high)
        return outputs

    def label(self, probability: float) -> int:
        """1 from the threshold on, else 0."""
        return int(probability >= self.threshold)

    def labels(self, probabilities: npt.ArrayLike) -> IntArray:
        """`label` of each of the probabilities of the last of two classes [N]."""
        return (np.asarray(probabilities) >= self.threshold).astype(np.int64)

    def classes(self, probabilities: Array, points_s: Times | None = None) -> IntArray:
        """The class of each point from its probabilities [P, C]: by the threshold of two, and filtered."""
        if probabilities.shape[-1] > 2:
            return probabilities.argmax(axis=-1).astype(np.int64)
        found = self.labels(probabilities[..., -1])
        return found if points_s is None else filtered(found == 1, points_s, self.step(Filter)).astype(np.int64)

    def abstains(self, probability: float) -> bool:
        """Whether the probability is too near to the threshold to be acted upon."""
        return abs(probability - self.threshold) < self.abstain_band


def smoothed(outputs: Array, points_s: Times, smooth: Smooth) -> Array:
    """Outputs [P, K] of points at times [P], each the weighted mean (or the median) of its neighbours'."""
    if smooth.radius == 0 or len(outputs) < 2:
        return outputs
    places = points_s if smooth.unit == "s" else np.arange(len(points_s), dtype=np.float64)
    first = np.searchsorted(places, places - smooth.radius - 1e-9, side="left")
    last = np.searchsorted(places, places + smooth.radius + 1e-9, side="right")
    if smooth.kernel == "mean":
        sums = np.concatenate([np.zeros((1, outputs.shape[1])), np.cumsum(outputs, axis=0)])
        return (sums[last] - sums[first]) / (last - first)[:, None]
    result = np.empty_like(outputs)
    for row, (start, end) in enumerate(zip(first, last, strict=True)):
        if smooth.kernel == "median":
            result[row] = np.median(outputs[start:end], axis=0)
        else:
            weights = np.exp(-0.5 * ((places[start:end] - places[row]) / (smooth.radius / 2)) ** 2)
            result[row] = weights @ outputs[start:end] / weights.sum()
    return result


def overruled(outputs: Array, judge: Array, rule: Overrule) -> Array:
    """Outputs [P, C] with the judge's [P, C] in their place where it is sure; NaN of the judge overrules nothing."""
    may = [label for label in range(judge.shape[1]) if label not in rule.never]
    with np.errstate(invalid="ignore"):
        if rule.when == "negative":
            sure = judge.argmax(axis=1) != judge.shape[1] - 1
            answer = np.zeros_like(judge)
            answer[:, 0] = 1.0
        else:
            sure = judge[:, may].max(axis=1) > rule.confidence
            answer = np.zeros_like(judge)
            answer[:, may] = judge[:, may] / judge[:, may].sum(axis=1, keepdims=True)
    sure &= ~np.isnan(judge).any(axis=1)
    return np.where(sure[:, None], answer, outputs)


def filtered(positive: BoolArray, points_s: Times, limits: Filter) -> BoolArray:
    """Which points [P] are positive after short gaps are filled and short stretches dropped."""
    borders = borders_of(points_s)

    def without_short(those: BoolArray, shortest_s: float, *, inner_only: bool) -> BoolArray:
        kept = those.copy()
        for start, end in runs_of(those.astype(np.int64)):
            at_an_end = start == 0 or end == len(those)
            if those[start] and not (inner_only and at_an_end) and borders[end] - borders[start] < shortest_s:
                kept[start:end] = False
        return kept

    # As long as the limit counts as a gap, as short as it is no stretch to drop.
    if limits.longest_gap_s:
        positive = ~without_short(~positive, limits.longest_gap_s + 1e-9, inner_only=True)
    return without_short(positive, limits.shortest_s - 1e-9, inner_only=False) if limits.shortest_s else positive


def runs_of(labels: IntArray) -> list[tuple[int, int]]:
    """Where each stretch of one label [P] begins, and where it ends (that place excluded)."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[:1] - 1))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(labels)], strict=True)) if len(labels) else []


def borders_of(points_s: Times) -> Times:
    """Between which times [P + 1] each point stands for its clip: half-way to its neighbours, as far at the ends."""
    if len(points_s) < 2:
        return np.array([*points_s, *points_s], np.float64)
    middles = (points_s[1:] + points_s[:-1]) / 2
    first = max(0.0, points_s[0] - (middles[0] - points_s[0]))
    return np.array([first, *middles, points_s[-1] + (points_s[-1] - middles[-1])], np.float64)
