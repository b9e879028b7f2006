"""The statistics of a study: macro F1 with intervals, differences, groups, calibration. Numbers alone, no layout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from twominds.records import Clip, Split, View
from twominds.reports.study.comparison import Comparison, OtherReport, compare
from twominds.reports.study.results import Answers, RowResult, StudyResults
from twominds.training.bootstrap import Difference, Estimate, PeopleBootstrap
from twominds.training.metrics import IntArray, confusion, macro_f1, metric_of_classes

REPORTED = (Split.VALIDATION, Split.TEST)
FEW_CLIPS = 10
"""Groups of fewer clips are flagged: their macro F1 says little."""
FEW_PEOPLE = 5
"""Groups of fewer people are flagged: their interval says little."""
BINS = 10
"""How many bins of equal width the reliability diagram has."""

GROUPINGS: dict[str, Callable[[Clip], str | None]] = {
    "question": lambda clip: None if clip.question is None else str(clip.question),
    "gender": lambda clip: clip.attributes.get("gender"),
    "age range": lambda clip: clip.attributes.get("age_range"),
    "ethnicity": lambda clip: clip.attributes.get("ethnicity"),
}
"""What the headline row is also scored by; clips of which the corpus does not say are left out."""


@dataclass(frozen=True, kw_only=True)
class SplitScore:
    """One row on one split."""

    mf1: Estimate
    """Mean over the row's S models."""
    by_model: tuple[float, ...]
    """Each model's own."""
    spread: float
    """Population standard deviation over the models."""
    confusion: tuple[tuple[float, ...], ...]
    """Mean over the models of the counts; row = true class, column = predicted class."""
    unseen: int
    """Clips without a score: the training majority is predicted for them."""


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """One row of the table."""

    row: RowResult
    section: str
    """`baseline`, `unimodal`, `multimodal`, or `ablation`: fewer modalities than the study's largest row."""
    splits: Mapping[Split, SplitScore]
    average: float | None
    """Mean of validation and test; None where one is missing."""
    over_unimodal: Difference | None
    """On test, over the unimodal row that is best on validation; None for that row itself."""


@dataclass(frozen=True, kw_only=True)
class HeadlineGroupScore:
    """The headline row on the clips of one group."""

    grouping: str
    group: str
    split: Split
    clips: int
    people: int
    mf1: Estimate
    notes: tuple[str, ...]
    """What to beware of."""


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


@dataclass(frozen=True, kw_only=True)
class DropScore:
    """A row that fuses, with one modality masked in every clip."""

    recipe: str
    view: View
    mf1: Mapping[Split, float]
    """Macro F1 without it."""
    change: Mapping[Split, float]
    """From the row as it is; negative: the row needs the modality."""


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
    groups: tuple[HeadlineGroupScore, ...]
    reliability: Mapping[Split, Reliability]
    """How reliable the probabilities of the headline row are."""
    drops: tuple[DropScore, ...]
    comparison: Comparison | None = None
    """The headline row beside that of another report; None where none was given."""

    @property
    def headline(self) -> RowScore:
        """The row that the report is about."""
        return next(score for score in self.rows if score.row.recipe == self.results.headline)

    @property
    def shown(self) -> Split:
        """The split of figures that have room for one: test, where there is one."""
        return self.splits[-1]


def score_study(results: StudyResults, other: OtherReport | None = None) -> StudyScores:
    """All statistics of a study; test labels are used for these alone.

    Args:
        results: The answers.
        other: A report to compare the headline with.

    Raises:
        ValueError: no split has a clip.
        ConfigError: the other report has none of the clips, or other labels.
    """
    splits = tuple(split for split in REPORTED if results.clips.get(split))
    if not splits:
        raise ValueError("a report needs labelled clips of validation or test")
    labels = {split: _labels(results.clips[split]) for split in splits}
    draws = {split: _bootstrap(results.clips[split], results.num_outputs) for split in splits}
    best = _best_unimodal(results, labels)
    largest = max(len(row.views) for row in results.rows)
    rows: list[RowScore] = []
    for row in results.rows:
        found = {
            split: _split_score(row.answers[split], labels[split], draws[split], results.num_outputs)
            for split in splits
            if split in row.answers
        }
        both = [found[split].mf1.value for split in REPORTED if split in found]
        over = None
        if best is not None and best is not row and Split.TEST in found and Split.TEST in best.answers:
            reference = best.answers[Split.TEST].predictions
            over = draws[Split.TEST].difference(row.answers[Split.TEST].predictions, reference)
        average = sum(both) / 2 if len(both) == 2 else None
        rows.append(
            RowScore(row=row, section=_section(row, largest), splits=found, average=average, over_unimodal=over)
        )
    headline = next(row for row in results.rows if row.recipe == results.headline)
    return StudyScores(
        results=results,
        splits=splits,
        people={split: draws[split].people for split in splits},
        rows=tuple(rows),
        best_unimodal=None if best is None else best.recipe,
        groups=tuple(_groups(results, headline, splits)),
        reliability={
            split: reliability(headline.answers[split], labels[split], results.num_outputs)
            for split in splits
            if split in headline.answers
        },
        drops=tuple(_drop(score, view) for score in rows for view in score.row.without),
        comparison=None if other is None else compare(results, other),
    )


def measured(results: StudyResults) -> dict[str, object]:
    """Macro F1 and intervals of what is saved and served, for its model card."""
    found: dict[str, object] = {}
    for split, clips in results.clips.items():
        mf1 = _bootstrap(clips, results.num_outputs).estimate(results.served[split].predictions)
        found[f"{split.name.lower()}_score"] = {"value": mf1.value, "interval": mf1.interval}
    return found


def reliability(answers: Answers, labels: IntArray, num_outputs: int) -> Reliability:
    """The reliability diagram of the last class's probability, in ten bins of equal width (the last one closed)."""
    probability = answers.probabilities.ravel()
    truth = np.tile(labels == num_outputs - 1, len(answers.probabilities))
    known = ~np.isnan(probability)
    probability, truth = probability[known], truth[known]
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (probability, truth.astype(np.float64)))
    mean, share = ([float(s / n) if n else None for s, n in zip(values, counts, strict=True)] for values in sums)
    gaps = [n * abs(p - f) for n, p, f in zip(counts, mean, share, strict=True) if p is not None and f is not None]
    return Reliability(
        counts=tuple(counts.tolist()),
        probability=tuple(mean),
        frequency=tuple(share),
        ece=float(sum(gaps) / len(probability)) if len(probability) else None,
        unseen=int(np.sum(~known)),
    )


def _best_unimodal(results: StudyResults, labels: Mapping[Split, IntArray]) -> RowResult | None:
    """Chosen on validation alone, whatever the rows themselves were selected on."""
    if Split.VALIDATION not in labels:
        return None
    truth = labels[Split.VALIDATION]

    def merit(row: RowResult) -> float:
        return float(np.mean(_by_model(row.answers[Split.VALIDATION], truth, results.num_outputs)))

    rows = [row for row in results.rows if len(row.views) == 1 and Split.VALIDATION in row.answers]
    return max(rows, key=merit, default=None)


def _split_score(answers: Answers, labels: IntArray, draws: PeopleBootstrap, num_outputs: int) -> SplitScore:
    by_model = _by_model(answers, labels, num_outputs)
    counts = np.mean([confusion(labels, row, num_outputs) for row in answers.predictions], axis=0)
    return SplitScore(
        mf1=draws.estimate(answers.predictions),
        by_model=by_model,
        spread=float(np.std(by_model)),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        unseen=int(np.isnan(answers.probabilities).all(axis=0).sum()),
    )


def _by_model(answers: Answers, labels: IntArray, num_outputs: int) -> tuple[float, ...]:
    return tuple(macro_f1(labels, row, num_outputs) for row in answers.predictions)


def _section(row: RowResult, largest: int) -> str:
    if len(row.views) < 2:
        return "unimodal" if row.views else "baseline"
    return "multimodal" if len(row.views) == largest else "ablation"


def _groups(results: StudyResults, headline: RowResult, splits: Sequence[Split]) -> Iterator[HeadlineGroupScore]:
    for grouping, of in GROUPINGS.items():
        names = {split: [of(clip) for clip in results.clips[split]] for split in splits if split in headline.answers}
        for group in sorted({name for found in names.values() for name in found if name}):
            for split, found in names.items():
                if chosen := [i for i, name in enumerate(found) if name == group]:
                    clips = [results.clips[split][i] for i in chosen]
                    predictions = headline.answers[split].predictions[:, chosen]
                    yield _group(grouping, group, split, clips, predictions, results.num_outputs)


def _group(
    grouping: str, group: str, split: Split, clips: Sequence[Clip], predictions: IntArray, num_outputs: int
) -> HeadlineGroupScore:
    draws = _bootstrap(clips, num_outputs)
    notes = {
        f"fewer than {FEW_CLIPS} clips": len(clips) < FEW_CLIPS,
        f"fewer than {FEW_PEOPLE} people": draws.people < FEW_PEOPLE,
        "a class is missing and counts as 0": len({clip.label for clip in clips}) < num_outputs,
    }
    return HeadlineGroupScore(
        grouping=grouping,
        group=group,
        split=split,
        clips=len(clips),
        people=draws.people,
        mf1=draws.estimate(predictions),
        notes=tuple(note for note, applies in notes.items() if applies),
    )


def _drop(score: RowScore, view: View) -> DropScore:
    without = {split: mf1 for split, mf1 in score.row.without[view].items() if split in score.splits}
    change = {split: mf1 - score.splits[split].mf1.value for split, mf1 in without.items()}
    return DropScore(recipe=score.row.recipe, view=view, mf1=without, change=change)


def _bootstrap(clips: Sequence[Clip], num_outputs: int) -> PeopleBootstrap:
    return PeopleBootstrap(
        _labels(clips), [clip.participant_id for clip in clips], metric_of_classes("macro_f1", num_outputs)
    )


def _labels(clips: Sequence[Clip]) -> IntArray:
    return np.array([cast("int", clip.label) for clip in clips], dtype=np.int64)
