"""From the ensemble's logits to a label: calibration, threshold and, where asked for, abstention.

Everything here is fitted on validation labels alone and saved with the ensemble.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from twominds.errors import ConfigError
from twominds.training.metrics import IntArray, IntLike, macro_f1

Array = npt.NDArray[np.float64]
Calibration = Literal["none", "temperature", "platt"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a probability is made and judged. The defaults change nothing: softmax, threshold 0.5, always an answer."""

    threshold: float = 0.5
    """Probability of the last class from which the label is 1."""
    temperature: float = 1.0
    """Divides every seed model's logits; above 1 makes the probabilities more cautious."""
    bias: float = 0.0
    """Added to the last class's logit after the temperature (Platt scaling; two classes)."""
    abstain_band: float = 0.0
    """Clips whose probability is less than this from the threshold are better left to a person; 0: none."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold must be in (0, 1), got {self.threshold}.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be above 0, got {self.temperature}.")
        if not np.isfinite(self.bias):
            raise ConfigError(f"bias must be a finite number, got {self.bias}.")
        if not 0 <= self.abstain_band <= 1:
            raise ConfigError(f"abstain_band must be in [0, 1], got {self.abstain_band}.")

    def probabilities(self, logits: npt.ArrayLike) -> Array:
        """Calibrated class probabilities [..., C] of logits [..., C] (of each seed model: average afterwards)."""
        scaled = np.asarray(logits, dtype=np.float64) / self.temperature
        scaled[..., -1] += self.bias
        exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    def label(self, probability: float) -> int:
        """1 from the threshold on, else 0."""
        return int(probability >= self.threshold)

    def labels(self, probabilities: npt.ArrayLike) -> IntArray:
        """`label` of each of the positive-class probabilities [N]."""
        return (np.asarray(probabilities) >= self.threshold).astype(np.int64)

    def abstains(self, probability: float) -> bool:
        """Whether the probability is too near to the threshold to be acted upon."""
        return abs(probability - self.threshold) < self.abstain_band


@dataclass(frozen=True, kw_only=True)
class DecisionFit:
    """What of the decision is fitted on the labels that chose the ensemble. The default is the paper's: nothing."""

    calibration: Calibration = "none"
    """Makes the probabilities mean what they say: one temperature, or Platt's temperature and bias."""
    threshold: Literal["half", "best"] = "half"
    """0.5, or the threshold with the best macro F1."""
    coverage: float = 1.0
    """Share of clips that get an answer; below 1, those nearest to the threshold are marked for a person."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        _check_coverage(self.coverage)


def fit_decision(settings: DecisionFit, logits: npt.ArrayLike, labels: IntLike) -> Decision:
    """The decision for an ensemble with these logits [S, N, 2] on N validation clips with these labels [N].

    Raises:
        ConfigError: calibration was asked for and the logits are not those of two classes.
    """
    decision = calibrate(Decision(), logits, labels, settings.calibration)
    positive = decision.probabilities(logits).mean(axis=0)[:, -1]
    if settings.threshold == "best":
        decision = choose_threshold(decision, positive, labels)
    return choose_abstention(decision, positive, settings.coverage) if settings.coverage < 1 else decision


def calibrate(
    decision: Decision, logits: npt.ArrayLike, labels: IntLike, method: Calibration = "temperature"
) -> Decision:
    """Set temperature (and bias, with `platt`) so that the ensemble's probabilities fit validation labels best.

    Minimises the negative log-likelihood of the mean over seeds of the calibrated probabilities. The targets are
    Platt's (1999), (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keep the answer finite where the classes are separated.

    Args:
        decision: what to start from; its threshold and abstention stay.
        logits: [S, N, 2] of the S seed models on N validation clips.
        labels: [N].
        method: `temperature` never changes which class is more probable for a single model; `platt` may.

    Raises:
        ConfigError: the logits are not those of two classes.
    """
    if method == "none":
        return decision
    stacked = np.asarray(logits, dtype=np.float64)
    if stacked.ndim != 3 or stacked.shape[-1] != 2:
        raise ConfigError(f"Calibration takes the logits of two classes, [seeds, clips, 2], got {stacked.shape}.")
    truth = np.asarray(labels, dtype=np.int64)
    positives = int(truth.sum())
    target: Array = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))

    margin = stacked[..., 1] - stacked[..., 0]

    def cost(temperature: float, bias: float) -> float:
        odds = np.exp(-np.clip(margin / temperature + bias, -500, 500))
        chance: Array = np.clip((1 / (1 + odds)).mean(axis=0), 1e-12, 1 - 1e-12)
        return float(-np.mean(target * np.log(chance) + (1 - target) * np.log(1 - chance)))

    temperatures: list[float] = np.geomspace(0.05, 20, 241).tolist()
    biases: list[float] = np.linspace(-4, 4, 161).tolist() if method == "platt" else [0.0]
    temperature, bias = decision.temperature, 0.0
    # By turns along each axis of a fixed grid: the same answer on every machine, to 2.5 % in temperature.
    for _ in range(20):
        before = (temperature, bias)
        _, temperature = min((cost(candidate, bias), candidate) for candidate in temperatures)
        _, bias = min((cost(temperature, candidate), candidate) for candidate in biases)
        if (temperature, bias) == before:
            break
    return replace(decision, temperature=temperature, bias=bias)


def choose_threshold(decision: Decision, probabilities: npt.ArrayLike, labels: IntLike) -> Decision:
    """Set the threshold with the best macro F1 on validation; of equals the one nearest to 0.5.

    Args:
        decision: what to start from; all but its threshold stays.
        probabilities: calibrated positive-class probabilities [N] of the ensemble on validation.
        labels: [N].
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    levels = np.unique(chance)
    between: list[float] = [0.5, *((levels[1:] + levels[:-1]) / 2).tolist()]

    def merit(threshold: float) -> tuple[float, float]:
        return macro_f1(labels, (chance >= threshold).astype(np.int64), 2), -abs(threshold - 0.5)

    return replace(decision, threshold=max(between, key=merit))


def choose_abstention(decision: Decision, probabilities: npt.ArrayLike, coverage: float) -> Decision:
    """Set the abstention band so that at least the share `coverage` of validation clips [N] still gets an answer.

    Raises:
        ConfigError: `coverage` is not in (0, 1].
    """
    _check_coverage(coverage)
    distance = np.sort(np.abs(np.asarray(probabilities, dtype=np.float64) - decision.threshold))
    left_out = int(np.floor((1 - coverage) * len(distance) + 1e-9))
    return replace(decision, abstain_band=float(distance[left_out]))


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage must be in (0, 1], got {coverage}.")
