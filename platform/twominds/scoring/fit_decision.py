"""What of a decision is fitted, and on what: validation's labels alone, those that chose the ensemble."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twominds.errors import ConfigError
from twominds.scoring.decision import Abstain, Array, Calibrate, Decision, Threshold
from twominds.training.metrics import IntLike, Metric, metric_of_classes

Calibration = Literal["none", "temperature", "platt"]


@dataclass(frozen=True, kw_only=True)
class DecisionFit:
    """What of the decision is fitted on the labels that chose the ensemble. The default is the paper's: nothing."""

    calibration: Calibration = "none"
    """Makes the probabilities mean what they say: one temperature, or Platt's temperature and bias."""
    threshold: Literal["half", "best"] = "half"
    """0.5, or the threshold with the best score by the task's metric."""
    coverage: float = 1.0
    """Share of clips that get an answer; below 1, those nearest to the threshold are marked for a person."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        _check_coverage(self.coverage)


def fit_decision(
    settings: DecisionFit,
    logits: npt.ArrayLike,
    labels: IntLike,
    start: Decision | None = None,
    metric: Metric | None = None,
) -> Decision:
    """The decision for an ensemble with these logits [S, N, 2] on N validation points with these labels [N].

    Args:
        settings: What is fitted.
        logits: [S, N, 2], of the S members.
        labels: True classes [N].
        start: Steps that are given, such as the recipe's smoothing; none of them is fitted here.
        metric: What the threshold is chosen by; None: macro F1.

    Raises:
        ConfigError: something is to be fitted and the logits are not those of two classes.
    """
    decision = start or Decision()
    if settings == DecisionFit():
        return decision
    if np.shape(logits)[-1] != 2:
        raise ConfigError(
            f"Calibration, threshold and coverage are fitted for two classes, not for {np.shape(logits)[-1]} outputs."
        )
    decision = calibrate(decision, logits, labels, settings.calibration)
    positive = decision.probabilities(logits).mean(axis=0)[:, -1]
    if settings.threshold == "best":
        decision = choose_threshold(decision, positive, labels, metric)
    return choose_abstention(decision, positive, settings.coverage) if settings.coverage < 1 else decision


def calibrate(
    decision: Decision, logits: npt.ArrayLike, labels: IntLike, method: Calibration = "temperature"
) -> Decision:
    """Set temperature (and bias, with `platt`) so that the ensemble's probabilities fit validation labels best.

    Minimises the negative log-likelihood of the mean over members of the calibrated probabilities. The targets are
    Platt's (1999), (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), which keep the answer finite where the classes are separated.

    Args:
        decision: what to start from; all but its calibration stays.
        logits: [S, N, 2] of the S members on N validation points.
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
    temperature, bias = decision.step(Calibrate).temperature, 0.0
    # By turns along each axis of a fixed grid: the same answer on every machine, to 2.5 % in temperature.
    for _ in range(20):
        before = (temperature, bias)
        _, temperature = min((cost(candidate, bias), candidate) for candidate in temperatures)
        _, bias = min((cost(temperature, candidate), candidate) for candidate in biases)
        if (temperature, bias) == before:
            break
    return decision.with_step(Calibrate(temperature=temperature, bias=bias))


def choose_threshold(
    decision: Decision, probabilities: npt.ArrayLike, labels: IntLike, metric: Metric | None = None
) -> Decision:
    """Set the threshold with the best score on validation; of equals the one nearest to 0.5.

    Args:
        decision: what to start from; all but its threshold stays.
        probabilities: calibrated positive-class probabilities [N] of the ensemble on validation.
        labels: [N].
        metric: what the score is; None: macro F1.
    """
    chance, judged = np.asarray(probabilities, dtype=np.float64), metric or metric_of_classes("macro_f1", 2)
    levels = np.unique(chance)
    if len(levels) > _MOST_LEVELS:  # of frames there are many: between them nothing changes much
        levels = np.quantile(levels, np.linspace(0, 1, _MOST_LEVELS))
    between: list[float] = [0.5, *((levels[1:] + levels[:-1]) / 2).tolist()]

    def merit(threshold: float) -> tuple[float, float]:
        return judged(labels, (chance >= threshold).astype(np.int64)), -abs(threshold - 0.5)

    return decision.with_step(Threshold(value=max(between, key=merit)))


_MOST_LEVELS = 2000
"""Thresholds that are tried at most."""


def choose_abstention(decision: Decision, probabilities: npt.ArrayLike, coverage: float) -> Decision:
    """Set the abstention band so that at least the share `coverage` of validation clips [N] still gets an answer.

    Raises:
        ConfigError: `coverage` is not in (0, 1].
    """
    _check_coverage(coverage)
    distance = np.sort(np.abs(np.asarray(probabilities, dtype=np.float64) - decision.threshold))
    left_out = int(np.floor((1 - coverage) * len(distance) + 1e-9))
    return decision.with_step(Abstain(band=float(distance[left_out])))


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage <= 1:
        raise ConfigError(f"coverage must be in (0, 1], got {coverage}.")
