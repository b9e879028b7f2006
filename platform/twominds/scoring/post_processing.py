"""Weights of a blend, smoothing and thresholds, chosen on validation from a recipe's own values (HSEmotion, section 5).

They are chosen one after another, as HSEmotion's code does: the weights (with the threshold that suits them) on the
answers as they are, then the radius of the smoothing together with the threshold, then from where on one is overruled.
Of equally good values the one that changes least is taken, of thresholds the one that the recipe names first. The test
split has no part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.errors import ConfigError, SelectionError
from twominds.records import Times
from twominds.scoring.decision import Array, Decision, Overrule, Smooth, Threshold
from twominds.scoring.members import Weight, blended
from twominds.scoring.weights import fit_weights
from twominds.training.metrics import IntArray, Metric


@dataclass(frozen=True, kw_only=True)
class Grids:
    """From which values what follows the models is chosen on validation. What has none stays as the recipe gives it."""

    weight_step: float | None = None
    """Between two weights of the blend that are tried; None: the members' weights are given."""
    per_output: bool = False
    """Weights for each output by itself, as HSEmotion has them for each emotion."""
    radii: tuple[float, ...] = ()
    """Radii of the smoothing, in the unit of the recipe's `Smooth`."""
    thresholds: tuple[float, ...] = ()
    """Probabilities that are tried as the one from which the last of two classes is the answer, the preferred first: of
    equally good ones that is taken."""
    confidences: tuple[float, ...] = ()
    """Probabilities above which the recipe's `Overrule` overrules; 1 is never reached."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is none that can be tried."""
        if self.radii and min(self.radii) < 0:
            raise ConfigError(f"radii must be 0 or more, got {self.radii}.")
        if any(not 0 < value < 1 for value in (*self.thresholds, *self.confidences)):
            raise ConfigError("thresholds and confidences must be in (0, 1).")

    def __bool__(self) -> bool:
        """Whether anything is chosen."""
        return self != Grids(per_output=self.per_output)


@dataclass(frozen=True, kw_only=True, eq=False)
class SaidClip:
    """What the members of an ensemble say of one clip, and what is known of it."""

    by_member: Array
    """[S, P, K]; NaN where a member sees nothing of a point."""
    points_s: Times | None
    """[P]; None where the one point is the whole clip."""
    places: IntArray
    """[N]: which of the points something is known of."""
    truth: npt.NDArray[Any]
    """[N] classes, or [N, K] intensities."""


@dataclass(frozen=True, kw_only=True)
class PostProcessing:
    """What follows the models: what each counts, and how their mean becomes an answer."""

    names: tuple[str, ...]
    """Of the S members, in the order of `SaidClip.by_member`."""
    weights: tuple[Weight, ...]
    """Of the same; 0 of one that is there to overrule."""
    decision: Decision

    def answers(self, clip: SaidClip, *, of_classes: bool) -> npt.NDArray[Any] | None:
        """What is answered at the clip's known points: classes [N], or intensities [N, K]; None: nothing is said."""
        mean = blended(clip.by_member, self.weights, of_classes=of_classes)
        if np.isnan(mean).any():
            return None
        by_name = dict(zip(self.names, clip.by_member, strict=True))
        outputs = self.decision.over_time(mean, clip.points_s, by_name)
        return (self.decision.classes(outputs, clip.points_s) if of_classes else outputs)[clip.places]


def fit_post_processing(
    clips: Sequence[SaidClip], start: PostProcessing, grids: Grids, metric: Metric, *, of_classes: bool
) -> PostProcessing:
    """The best that the grids allow on some clips.

    Args:
        clips: Of the validation split; those of which nothing is said count for nothing here.
        start: What is given, and what stays where a grid has no values.
        grids: What is tried.
        metric: What is best by it.
        of_classes: Whether answers are classes rather than intensities.

    Raises:
        SelectionError: no clip has an answer, so nothing can be chosen.
        ConfigError: a grid is for a step that the decision has not.
    """
    if not grids:
        return start
    if grids.radii and not start.decision.has(Smooth):
        raise ConfigError("radii are tried, but the decision has no smoothing.")
    if grids.confidences and not start.decision.has(Overrule):
        raise ConfigError("confidences are tried, but nobody overrules.")
    said = [clip for clip in clips if start.answers(clip, of_classes=of_classes) is not None]
    if not said:
        raise SelectionError("No labelled validation clip has an answer: weights and thresholds can't be chosen.")
    truth = np.concatenate([clip.truth for clip in said])

    def score(found: PostProcessing) -> float:
        answers = [found.answers(clip, of_classes=of_classes) for clip in said]
        if any(of_clip is None for of_clip in answers):  # who alone sees a clip has no weight any more
            return -np.inf
        return metric(truth, np.concatenate([of_clip for of_clip in answers if of_clip is not None]))

    if (step := grids.weight_step) is not None:
        start = _with_weights(start, said, truth, grids, metric, step)
    radii = sorted(grids.radii) or [None]
    thresholds = grids.thresholds or (None,)
    start = _best([_with(start, radius, threshold) for radius, threshold in product(radii, thresholds)], score)
    if grids.confidences:
        rule = start.decision.step(Overrule)
        rules = [replace(rule, confidence=value) for value in sorted(grids.confidences, reverse=True)]
        start = _best([replace(start, decision=start.decision.with_step(each)) for each in rules], score)
    return start


def cross_fitted(
    clips: Sequence[SaidClip],
    people: Sequence[str],
    start: PostProcessing,
    grids: Grids,
    metric: Metric,
    *,
    of_classes: bool,
    folds: int = 5,
) -> list[npt.NDArray[Any] | None]:
    """What each clip is answered with where everything was chosen on other people: honest without a labelled test.

    People are dealt out to the folds in the order of their names; so nobody is in two of them, and it is the same each
    time.

    Args:
        clips: What the members say of the clips of the validation split.
        people: Who is in each clip.
        start: Weights and decision before anything is chosen; what has no grid stays.
        grids: The values that are tried.
        metric: The score that is made as high as can be.
        of_classes: Whether the answers are classes; else they are intensities.
        folds: In so many parts, or as many as there are people.

    Returns:
        Of each clip the answers at its known points; None where nobody says anything.

    Raises:
        SelectionError: there are fewer than two people.
    """
    names = sorted(set(people))
    if len(names) < 2:
        raise SelectionError("Cross-fitting needs at least two people: what is chosen on one is tried on others.")
    fold_of = {name: i % min(folds, len(names)) for i, name in enumerate(names)}
    of_clip = [fold_of[name] for name in people]
    found: dict[int, PostProcessing] = {}
    for fold in sorted(set(of_clip)):
        others = [clip for clip, own in zip(clips, of_clip, strict=True) if own != fold]
        found[fold] = fit_post_processing(others, start, grids, metric, of_classes=of_classes)
    return [found[own].answers(clip, of_classes=of_classes) for clip, own in zip(clips, of_clip, strict=True)]


def _with_weights(
    start: PostProcessing,
    clips: Sequence[SaidClip],
    truth: npt.NDArray[Any],
    grids: Grids,
    metric: Metric,
    step: float,
) -> PostProcessing:
    """The same with the best weights of the members that count."""
    counted = [i for i, weight in enumerate(start.weights) if np.max(weight) > 0]
    outputs = np.concatenate([clip.by_member[counted][:, clip.places] for clip in clips], axis=1)
    decisions = [start.decision.with_step(Threshold(value=value)) for value in grids.thresholds] or [start.decision]
    fitted = fit_weights(outputs, truth, metric, step=step, per_output=grids.per_output, decisions=decisions)
    weights = list(start.weights)
    for place, weight in zip(counted, fitted, strict=True):
        weights[place] = weight
    return replace(start, weights=tuple(weights))


def _with(start: PostProcessing, radius: float | None, threshold: float | None) -> PostProcessing:
    decision = start.decision
    if radius is not None:
        decision = decision.with_step(replace(decision.step(Smooth), radius=radius))
    if threshold is not None:
        decision = decision.with_step(Threshold(value=threshold))
    return replace(start, decision=decision)


def _best(candidates: Sequence[PostProcessing], score: Callable[[PostProcessing], float]) -> PostProcessing:
    """The first with the best score; rounding makes no difference."""
    best, found = candidates[0], -np.inf
    if len(candidates) == 1:
        return best
    for candidate in candidates:
        if (value := score(candidate)) > found + 1e-12:
            best, found = candidate, value
    return best
