"""Two ensembles on the same labelled clips, in pairs: that of a report, and that of another one by its `scores.csv`.

Reports are compared, not artifacts: ensembles of different encoders would each need their own embeddings, and a report
has kept what its ensemble said of every clip.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from upath import UPath

from twominds.errors import ConfigError, MissingInputError
from twominds.records import Split
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.results import StudyResults
from twominds.tasks import AH_VIDEO, Classes, Task
from twominds.training.bootstrap import Difference, Estimate, PeopleBootstrap
from twominds.training.metrics import metric_of

SCORES = "scores.csv"
"""File of a report: what its ensemble says at each labelled point."""
RESULTS = "results.json"
"""File of a report: every number."""


Point = tuple[str, str, str, str]
"""Split and clip id, and of a task per frame which point of the clip it is, and when: as the file has them."""


@dataclass(frozen=True, kw_only=True)
class OtherReport:
    """What another report keeps of its ensemble."""

    place: str
    name: str
    """The report's headline row, and the artifact behind it."""
    selected_on: str
    task: str
    answers: Mapping[Point, tuple[list[float], list[float]]]
    """Label and prediction of each point."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """This ensemble and the other one at the points of a split that both reports have."""

    clips: int
    points: int
    people: int
    elsewhere: int
    """Clips of the split that one report alone has: they do not count here."""
    ours: Estimate
    theirs: Estimate
    difference: Difference
    """Ours less theirs, on the same resamples of people."""
    only_ours: int | None
    """Points that ours gets right, and theirs does not; None of intensities, which nobody gets right."""
    only_theirs: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How an ensemble does beside another one."""

    other: OtherReport
    splits: Mapping[Split, Paired]


def read_report(uri: str) -> OtherReport:
    """The report in the folder `uri`.

    Raises:
        MissingInputError: there is none, or one of an older version, which kept less.
    """
    try:
        told = json.loads((UPath(uri) / RESULTS).read_text())
        lines = list(csv.DictReader(io.StringIO((UPath(uri) / SCORES).read_text())))
        headline = next(row for row in told["rows"] if row["recipe"] == told["headline"])
        answers = {_point(row): (_values(row, "label"), _values(row, "predicted")) for row in lines}
    except (FileNotFoundError, KeyError) as error:
        raise MissingInputError(
            f"There is no report of `jobs/evaluate.py` at {uri}, or one of an older version ({error}). "
            "Make it with that job, and give its --output here."
        ) from error
    return OtherReport(
        place=uri,
        name=f"{told['study']}: {headline['recipe']} ({headline['artifact_id']})",
        selected_on=headline["selected_on"],
        task=told.get("task", AH_VIDEO.name),  # older reports know no other
        answers=answers,
    )


def _point(row: Mapping[str, str]) -> Point:
    return row["split"], row["clip_id"], row.get("point", ""), row.get("time_s", "")


def _values(row: Mapping[str, str], column: str) -> list[float]:
    """A class, or the intensities of `column` of each output."""
    of_outputs = [float(cell) for name, cell in row.items() if name.startswith(f"{column} ")]
    return of_outputs or [float(row[column])]


def compare(results: StudyResults, other: OtherReport) -> Comparison:
    """The headline's ensemble beside that of another report.

    Raises:
        ConfigError: the two are of different tasks, have no clip in common, or do not agree on the labels.
    """
    if other.task != results.task.name:
        raise ConfigError(f"The report at {other.place} is of the task {other.task}, this one of {results.task.name}.")
    splits = {split: _paired(results, split, other) for split in results.clips}
    found = {split: paired for split, paired in splits.items() if paired is not None}
    if not found:
        raise ConfigError(f"The report at {other.place} has no clip of these splits: there is nothing to compare.")
    return Comparison(other=other, splits=found)


def point_names(points: LabelledPoints, split: Split, task: Task) -> list[Point]:
    """What each point [N] is called in `scores.csv`."""
    owners = [clip.clip_id for clip in points.clip_of_each]
    if not task.per_frame:
        return [(str(split), clip_id, "", "") for clip_id in owners]
    times = ["" if np.isnan(at) else repr(at) for at in points.times_s.tolist()]
    return [
        (str(split), clip_id, str(place), at)
        for clip_id, place, at in zip(owners, points.places.tolist(), times, strict=True)
    ]


def _paired(results: StudyResults, split: Split, other: OtherReport) -> Paired | None:
    points, task = results.points[split], results.task
    names = point_names(points, split, task)
    both = np.array([name in other.answers for name in names], np.bool_)
    if not both.any():
        return None
    found = [other.answers[name] for name, there in zip(names, both, strict=True) if there]
    known, predicted = (np.array([of_point[i] for of_point in found]) for i in (0, 1))
    if isinstance(task.output, Classes):
        known, predicted = known[:, 0].astype(np.int64), predicted[:, 0].astype(np.int64)
    labels, owners = points.truth[both], points.owners[both]
    differs = (known.reshape(len(known), -1) != labels.reshape(len(labels), -1)).any(axis=1)
    if disagree := len(np.unique(owners[differs])):
        raise ConfigError(
            f"{disagree} clips of the split {split} have another label in the report at {other.place}: evaluate both "
            "ensembles on the same corpus."
        )
    own = results.served[split].predictions[:, both]
    people = [person for person, there in zip(points.people, both, strict=True) if there]
    draws = PeopleBootstrap(labels, people, metric_of(task))
    right, other_right = own[0] == labels, predicted == labels
    of_classes, shared = isinstance(task.output, Classes), {name[1] for name in names if name in other.answers}
    either = {clip.clip_id for clip in points.clips} | {name[1] for name in other.answers if name[0] == split.value}
    return Paired(
        clips=len(shared),
        points=len(labels),
        people=draws.people,
        elsewhere=len(either - shared),
        ours=draws.estimate(own),
        theirs=draws.estimate(predicted[None]),
        difference=draws.difference(own, predicted[None]),
        only_ours=int((right & ~other_right).sum()) if of_classes else None,
        only_theirs=int((other_right & ~right).sum()) if of_classes else None,
    )
