"""What a study or an evaluation found: every row's answers at the labelled points, before any statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.artifacts import Card, Weights
from twominds.recipes.recipe import PublishedScores, Reports
from twominds.records import BoolArray, Clip, Score, Split, View
from twominds.reports.study.points import LabelledPoints
from twominds.tasks import Task
from twominds.training.selection import SelectionProtocol

SEEDS_LOST = "seeds_lost"
"""In a card's metrics: why a seed came to nothing, by the seed."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the models of one row say at the N known points of one split, in the order of `StudyResults.points`.

    A row has S models: the five seeds where it reports a single fusion, else one (the encoder, the ensemble).
    """

    predictions: npt.NDArray[Any]
    """int64 [S, N] classes, or float64 [S, N, K] intensities. A point that has no score gets the constant of training:
    its majority, or its means."""
    probabilities: npt.NDArray[np.float64] | None
    """float64 [S, N] of the last of two classes; NaN where the point has no score. None of other tasks."""
    answered: BoolArray
    """[N]: which points have a score of any model: the clip could be processed, and has one of the row's modalities."""


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """One row of the table."""

    recipe: str
    """As in `--recipe`; of an evaluation, which part of the ensemble it is."""
    description: str
    views: tuple[View, ...]
    """Empty for a baseline that sees no video."""
    reports: Reports
    answers: Mapping[Split, Answers]
    """Per split that is reported; none at all where the row could not be made."""
    note: str = ""
    """What its recipe promises and is not there, and why: some of the seeds, or the whole row."""
    published: PublishedScores | None = None
    without: Mapping[View, Mapping[Split, float]] = field(default_factory=dict[View, Mapping[Split, float]])
    """The score with one view masked in every clip (rows that fuse)."""
    seeds: tuple[int, ...] = ()
    parameters: int = 0
    """Trained here, in one model: encoders count in their own rows."""
    selected_on: SelectionProtocol = "validation"
    weights: Weights = "published"
    artifact_id: str = ""
    artifact: str = ""
    """Where the artifact of the row is; empty for a baseline."""
    chosen_after: bool = False
    """Whether weights, smoothing or thresholds were chosen on validation when the models were trained."""
    cross_fitted: Answers | None = None
    """What it says on validation where weights, radii and thresholds were chosen on other people; None where nothing is
    chosen, or a labelled test split tells what that is worth."""


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """A whole table."""

    study: str
    """As in `--recipe`, or the ensemble that is evaluated."""
    task: Task
    """What is recognised, and what rows are scored by."""
    points: Mapping[Split, LabelledPoints]
    """The labelled clips of each reported split, and what is known of them."""
    train: LabelledPoints
    """The labelled training clips, which the baselines learn from."""
    prior: tuple[float, ...]
    """What training says without a look at any clip: the classes' shares, or the mean intensities."""
    rows: tuple[RowResult, ...]
    """Baselines first, then the recipes in their order."""
    headline: str
    """The recipe of the row that the report is about."""
    headline_is: str
    """Why it is that one, in words."""
    served: Mapping[Split, Answers]
    """What the artifact of the headline row says as it is saved and served: one answer to each point."""
    scores: Mapping[Split, tuple[Score | None, ...]] = field(default_factory=dict[Split, tuple[Score | None, ...]])
    """Its scores of the clips, in their order; None where there is none."""
    failures: int = 0
    """Clips in quarantine. Those of them that have a label count."""

    @property
    def clips(self) -> dict[Split, tuple[Clip, ...]]:
        """The labelled clips of each reported split: labels, participant, question, attributes."""
        return {split: points.clips for split, points in self.points.items()}


def what_is_lost(card: Card) -> str:
    """Says which of the seeds that a row promises came to nothing, and why; "" where all are there."""
    lost: dict[str, str] = card.metrics.get(SEEDS_LOST, {})
    if not lost:
        return ""
    reasons = " ".join(f"Seed {seed}: {reason}" for seed, reason in lost.items())
    return f"{len(card.seeds)} of {len(card.seeds) + len(lost)} seeds. {reasons}"
