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
from twominds.reports.study.results import StudyResults
from twominds.training.bootstrap import Difference, Estimate, PeopleBootstrap
from twominds.training.metrics import metric_of_classes

SCORES = "scores.csv"
"""File of a report: what its ensemble says of each labelled clip."""
RESULTS = "results.json"
"""File of a report: every number."""


@dataclass(frozen=True, kw_only=True)
class OtherReport:
    """What another report keeps of its ensemble."""

    place: str
    name: str
    """The report's headline row, and the artifact behind it."""
    selected_on: str
    answers: Mapping[tuple[str, str], tuple[int, int]]
    """Label and prediction by split and clip id."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """This ensemble and the other one on the clips of a split that both reports have."""

    clips: int
    people: int
    elsewhere: int
    """Clips of the split that one report alone has: they do not count here."""
    ours: Estimate
    theirs: Estimate
    difference: Difference
    """Ours less theirs, on the same resamples of people."""
    only_ours: int
    """Clips that ours gets right, and theirs does not."""
    only_theirs: int


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
        answers = {(row["split"], row["clip_id"]): (int(row["label"]), int(row["predicted"])) for row in lines}
    except (FileNotFoundError, KeyError) as error:
        raise MissingInputError(
            f"There is no report of `jobs/evaluate.py` at {uri}, or one of an older version ({error}). "
            "Make it with that job, and give its --output here."
        ) from error
    return OtherReport(
        place=uri,
        name=f"{told['study']}: {headline['recipe']} ({headline['artifact_id']})",
        selected_on=headline["selected_on"],
        answers=answers,
    )


def compare(results: StudyResults, other: OtherReport) -> Comparison:
    """The headline's ensemble beside that of another report.

    Raises:
        ConfigError: the two have no clip in common, or do not agree on the labels.
    """
    splits = {split: _paired(results, split, other) for split in results.clips}
    found = {split: paired for split, paired in splits.items() if paired is not None}
    if not found:
        raise ConfigError(f"The report at {other.place} has no clip of these splits: there is nothing to compare.")
    return Comparison(other=other, splits=found)


def _paired(results: StudyResults, split: Split, other: OtherReport) -> Paired | None:
    clips, theirs = results.clips[split], {i: said for (of, i), said in other.answers.items() if of == split.value}
    both = [i for i, clip in enumerate(clips) if clip.clip_id in theirs]
    if not both:
        return None
    labels = np.array([clips[i].label for i in both], dtype=np.int64)
    known, predicted = np.array([theirs[clips[i].clip_id] for i in both], dtype=np.int64).T
    if disagree := int((known != labels).sum()):
        raise ConfigError(
            f"{disagree} clips of the split {split} have another label in the report at {other.place}: evaluate both "
            "ensembles on the same corpus."
        )
    own = results.served[split].predictions[:, both]
    draws = PeopleBootstrap(
        labels, [clips[i].participant_id for i in both], metric_of_classes("macro_f1", results.num_outputs)
    )
    right, other_right = own[0] == labels, predicted == labels
    return Paired(
        clips=len(both),
        people=draws.people,
        elsewhere=len(clips) + len(theirs) - 2 * len(both),
        ours=draws.estimate(own),
        theirs=draws.estimate(predicted[None]),
        difference=draws.difference(own, predicted[None]),
        only_ours=int((right & ~other_right).sum()),
        only_theirs=int((other_right & ~right).sum()),
    )
