"""The tables of a study's report for programs, as CSV."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twominds.reports.study.cells import bounds, percent
from twominds.reports.study.cells import points as in_points
from twominds.reports.study.comparison import point_names
from twominds.reports.study.protocol import split_name
from twominds.reports.study.results import StudyResults
from twominds.reports.study.scores import REPORTED, StudyScores
from twominds.reports.study.tables import paper
from twominds.tasks import Classes


def table_rows(scores: StudyScores) -> list[list[str]]:
    """Every row with all its numbers; the first line is the header."""
    header = ["recipe", "section", "description", "modalities", "models", "metric"]
    for split in REPORTED:
        header += [
            f"{split_name(split)}_{what}" for what in ("clips", "score", "ci_low", "ci_high", "seed_std", "unseen")
        ]
    header += ["validation_cross_fitted", "cross_fitted_ci_low", "cross_fitted_ci_high"]
    header += [
        "validation_at_half",
        "test_at_half",
        "mean_score",
        "paper_validation",
        "paper_test",
        "paper_mean",
        "paper_private",
        "best_unimodal",
    ]
    header += ["test_minus_best_unimodal", "difference_ci_low", "difference_ci_high", "p_value"]
    header += ["parameters", "selected_on", "weights", "artifact_id", "note"]
    rows = [header]
    for score in scores.rows:
        row, over = score.row, score.over_unimodal
        models = max((len(found.by_model) for found in score.splits.values()), default=0)
        cells = [row.recipe, score.section, row.description, " ".join(row.views), str(models), scores.task.metric]
        for split in REPORTED:
            if (found := score.splits.get(split)) is None:
                cells += [""] * 6
                continue
            spread = percent(found.spread, "") if len(found.by_model) > 1 else ""
            numbers = [percent(found.score.value, ""), *bounds(found.score), spread]
            cells += [str(len(scores.results.points[split].clips)), *numbers, str(found.unseen)]
        crossed = score.cross_fitted
        cells += ["", "", ""] if crossed is None else [percent(crossed.value, ""), *bounds(crossed)]
        cells += [percent(score.at_half.get(split), "") for split in REPORTED]
        cells += [percent(score.average, ""), *(in_points(value, "") for value in paper(row))]
        cells += [scores.best_unimodal or "", *([percent(over.value, ""), *bounds(over)] if over else [""] * 3)]
        cells += ["" if over is None or over.p_value is None else f"{over.p_value:.4f}", str(row.parameters)]
        made_by = (row.selected_on, row.weights) if row.views and row.answers else ("", "")
        rows.append([*cells, *made_by, row.artifact_id, row.note])
    return rows


def group_rows(scores: StudyScores) -> list[list[str]]:
    """The headline row per group; the first line is the header."""
    rows = [["grouping", "group", "split", "clips", "people", "metric", "score", "ci_low", "ci_high"]]
    rows[0] += ["notes", "selected_on"]
    selected_on = scores.headline.row.selected_on
    for score in scores.groups:
        counts = [str(score.clips), str(score.people), scores.task.metric]
        numbers = [percent(score.score.value), *bounds(score.score)]
        notes = "; ".join(score.notes)
        rows.append([score.grouping, score.group, split_name(score.split), *counts, *numbers, notes, selected_on])
    return rows


def score_rows(results: StudyResults) -> list[list[str]]:
    """What the ensemble that is saved says at every labelled point; the first line is the header.

    Of a task per frame `point` is the frame's number in the clip, from 0, and `time_s` when it is shown. Of intensities
    each output has a column of its own, such as `label Joy` and `predicted Joy`. A point without a score has the
    constant of training; its probability, which there is of two classes, is empty.
    """
    task = results.task
    outputs = [""] if isinstance(task.output, Classes) else [f" {name}" for name in task.names]
    header = ["clip_id", "split", "participant", *(f"label{name}" for name in outputs)]
    header += [*(f"predicted{name}" for name in outputs), *(["probability"] * task.is_binary)]
    rows = [header + ["point", "time_s"] * task.per_frame]
    for split, points in results.points.items():
        said = results.served[split]
        chances = np.full(len(points), np.nan) if said.probabilities is None else said.probabilities[0]
        named = zip(points.clip_of_each, point_names(points, split, task), strict=True)
        for i, (clip, name) in enumerate(named):
            cells = [clip.clip_id, str(split), clip.participant_id or ""]
            cells += [*_numbers(points.truth[i]), *_numbers(said.predictions[0][i])]
            if task.is_binary:
                cells.append("" if np.isnan(chances[i]) else repr(float(chances[i])))
            rows.append([*cells, *(name[2:] if task.per_frame else ())])
    return rows


def _numbers(values: npt.ArrayLike) -> list[str]:
    """A class, or intensities, as they are."""
    return [repr(value) for value in np.atleast_1d(values).tolist()]


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """The lines as a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
