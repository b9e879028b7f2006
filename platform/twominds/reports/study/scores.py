"""The statistics of a study: scores with intervals, differences, groups, calibration. Numbers alone, no layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.records import Split, View
from twominds.reports.study.comparison import Comparison, OtherReport, compare
from twominds.reports.study.contributions import GroupContributions, group_contributions
from twominds.reports.study.groups import GroupScore, group_scores
from twominds.reports.study.metric_words import PER_OUTPUT, other_metrics
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.reliability import Reliability, reliability
from twominds.reports.study.results import Answers, RowResult, StudyResults
from twominds.tasks import Classes, Task
from twominds.training.bootstrap import Difference, Estimate, PeopleBootstrap, Resampled
from twominds.training.metrics import confusion, metric_of, per_output
from twominds.training.ranking import AveragePrecision, ChallengeAveragePrecision

REPORTED = (Split.VALIDATION, Split.TEST)


@dataclass(frozen=True, kw_only=True)
class SplitScore:
    """One row on one split."""

    score: Estimate
    """By the task's metric, mean over the row's S models."""
    by_model: tuple[float, ...]
    """Each model's own."""
    spread: float
    """Population standard deviation over the models."""
    confusion: tuple[tuple[float, ...], ...] | None
    """Mean over the models of the counts; row = true class, column = predicted class. None of intensities."""
    unseen: int
    """Clips without a score: the constant of training is predicted for them."""
    other_metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """By every other metric of such answers, mean over the models."""


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """One row of the table."""

    row: RowResult
    section: str
    """`baseline`, `unimodal`, `multimodal`, or `ablation`: fewer modalities than the largest row of its system."""
    splits: Mapping[Split, SplitScore]
    average: float | None
    """Mean of validation and test; None where one is missing."""
    over_unimodal: Difference | None
    """On test, over the unimodal row that is best on validation; None for that row itself."""
    cross_fitted: Estimate | None = None
    """On validation, where what follows the models was chosen on other people; None where that was not asked."""
    at_half: Mapping[Split, float] = field(default_factory=dict[Split, float])
    """Of two classes, what the same probabilities give with the threshold 0.5, where another was chosen."""


@dataclass(frozen=True, kw_only=True)
class DropScore:
    """A row that fuses, with one view masked in every clip."""

    recipe: str
    view: View
    score: Mapping[Split, float]
    """The score without the modality, by split."""
    change: Mapping[Split, float]
    """From the row as it is; negative: the row needs the view."""


@dataclass(frozen=True, kw_only=True)
class StudyScores:
    """All numbers of the report."""

    results: StudyResults
    splits: tuple[Split, ...]
    """That have labelled clips."""
    people: Mapping[Split, int]
    rows: tuple[RowScore, ...]
    best_unimodal: str | None
    """Its recipe, chosen on validation; None without a unimodal row or a validation split."""
    groups: tuple[GroupScore, ...]
    reliability: Mapping[Split, Reliability]
    """How reliable the probabilities of the headline row are, of two classes."""
    drops: tuple[DropScore, ...]
    contributions: tuple[GroupContributions, ...] = ()
    """What the headline's answers are made of; empty where it has one modality."""
    comparison: Comparison | None = None
    """The headline row beside that of another report; None where none was given."""

    @property
    def headline(self) -> RowScore:
        """The row that the report is about."""
        return next(score for score in self.rows if score.row.recipe == self.results.headline)

    @property
    def task(self) -> Task:
        """What is recognised."""
        return self.results.task

    @property
    def shown(self) -> Split:
        """The split of figures that have room for one: test, where there is one."""
        return self.splits[-1]


def score_study(results: StudyResults, other: OtherReport | None = None) -> StudyScores:
    """All statistics of a study; test labels are used for these alone.

    Args:
        results: What every row answered.
        other: A report to compare the headline with.

    Raises:
        ValueError: no split has a clip.
        ConfigError: the other report has none of the clips, or other labels.
    """
    task = results.task
    points = {
        split: results.points[split] for split in REPORTED if split in results.points and len(results.points[split])
    }
    if not points:
        raise ValueError("a report needs labelled clips of validation or test")
    draws = {split: _bootstrap(found, task) for split, found in points.items()}
    best = _best_unimodal(results, points)
    rows: list[RowScore] = []
    for row in results.rows:
        found = {
            split: _split_score(row.answers[split], points[split], draws[split], results)
            for split in points
            if split in row.answers
        }
        both = [found[split].score.value for split in REPORTED if split in found]
        over = None
        if best is not None and best is not row and Split.TEST in found and Split.TEST in best.answers:
            reference = best.answers[Split.TEST].predictions
            over = draws[Split.TEST].difference(row.answers[Split.TEST].predictions, reference)
        average = sum(both) / 2 if len(both) == 2 else None
        crossed = row.cross_fitted
        rows.append(
            RowScore(
                row=row,
                section=_section(row, results.rows),
                splits=found,
                average=average,
                over_unimodal=over,
                cross_fitted=None if crossed is None else draws[Split.VALIDATION].estimate(crossed.predictions),
                at_half=_at_half(row, points, task),
            )
        )
    headline = next(row for row in results.rows if row.recipe == results.headline)
    return StudyScores(
        results=results,
        splits=tuple(points),
        people={split: draws[split].people for split in points},
        rows=tuple(rows),
        best_unimodal=None if best is None else best.recipe,
        groups=tuple(group_scores(points, headline.answers, task)),
        reliability={
            split: reliability(said, found.truth)
            for split, found in points.items()
            if split in headline.answers and (said := headline.answers[split].probabilities) is not None
        },
        drops=tuple(_drop(score, view) for score in rows for view in score.row.without),
        contributions=tuple(group_contributions(results)),
        comparison=None if other is None else compare(results, other),
    )


def measured(results: StudyResults) -> dict[str, object]:
    """Scores and intervals of what is saved and served, for its model card."""
    found: dict[str, object] = {}
    for split, points in results.points.items():
        score = _bootstrap(points, results.task).estimate(results.served[split].predictions)
        found[f"{split.name.lower()}_score"] = {"value": score.value, "interval": score.interval}
    return found


def _best_unimodal(results: StudyResults, points: Mapping[Split, LabelledPoints]) -> RowResult | None:
    """Chosen on validation alone, whatever the rows themselves were selected on."""
    if Split.VALIDATION not in points:
        return None
    truth = points[Split.VALIDATION].truth

    def merit(row: RowResult) -> float:
        return float(np.mean(_by_model(row.answers[Split.VALIDATION], truth, metric_of(results.task))))

    rows = [row for row in results.rows if len(row.views) == 1 and Split.VALIDATION in row.answers]
    return max(rows, key=merit, default=None)


def _at_half(row: RowResult, points: Mapping[Split, LabelledPoints], task: Task) -> dict[Split, float]:
    """Mean over the models; a point that has no score keeps its answer."""
    found: dict[Split, float] = {}
    for split in points:
        if not row.chosen_after or split not in row.answers or (said := row.answers[split].probabilities) is None:
            continue
        predictions = np.where(np.isnan(said), row.answers[split].predictions, said >= 0.5)
        found[split] = float(
            np.mean([metric_of(task)(points[split].truth, each.astype(np.int64)) for each in predictions])
        )
    return found


def _split_score(answers: Answers, points: LabelledPoints, draws: PeopleBootstrap, results: StudyResults) -> SplitScore:
    task, counts = results.task, None
    if isinstance(task.output, Classes):
        of_models = [confusion(points.truth, row, task.num_outputs) for row in answers.predictions]
        counts = tuple(tuple(row) for row in np.mean(of_models, axis=0).tolist())
    by_model = _by_model(answers, points.truth, metric_of(task))
    return SplitScore(
        score=draws.estimate(answers.predictions),
        by_model=by_model,
        spread=float(np.std(by_model)),
        confusion=counts,
        unseen=points.count(~answers.answered),
        other_metrics={name: _by_metric(name, answers, points.truth, results) for name in other_metrics(task)},
    )


def _by_metric(name: str, answers: Answers, truth: npt.NDArray[Any], results: StudyResults) -> float:
    """Mean over the models of another metric than the task's; a point without a probability has training's share."""
    task = results.task
    if name.startswith(PER_OUTPUT):
        metric, output = metric_of(task, "pearson"), task.names.index(name.removeprefix(PER_OUTPUT))
        sums = [metric.sums(truth, row) for row in answers.predictions]
        return float(np.mean([per_output("pearson", of_model)[output] for of_model in sums]))
    ranking = {one.name: one for one in (AveragePrecision(), ChallengeAveragePrecision())}
    if name in ranking and answers.probabilities is not None:
        chances = np.where(np.isnan(answers.probabilities), results.prior[-1], answers.probabilities)
        return float(np.mean([ranking[name](truth, row) for row in chances]))
    return float(np.mean(_by_model(answers, truth, metric_of(task, name))))


def _by_model(answers: Answers, truth: npt.NDArray[Any], metric: Resampled) -> tuple[float, ...]:
    return tuple(metric(truth, row) for row in answers.predictions)


def _section(row: RowResult, rows: Sequence[RowResult]) -> str:
    if len(row.views) < 2:
        return "unimodal" if row.views else "baseline"
    system = row.recipe.partition("/")[0]  # a table may be of several
    largest = max(len(other.views) for other in rows if other.recipe.partition("/")[0] == system)
    return "multimodal" if len(row.views) == largest else "ablation"


def _drop(score: RowScore, view: View) -> DropScore:
    without = {split: value for split, value in score.row.without[view].items() if split in score.splits}
    change = {split: value - score.splits[split].score.value for split, value in without.items()}
    return DropScore(recipe=score.row.recipe, view=view, score=without, change=change)


def _bootstrap(points: LabelledPoints, task: Task) -> PeopleBootstrap:
    return PeopleBootstrap(points.truth, points.people, metric_of(task))
