"""Evaluation: embeddings and an ensemble in, the report out.

    embeddings ─▶ answers of the ensemble, of its parts and of baselines ─▶ report

To score is a second's work for thousands of clips, so it is done here and not on the cluster. Test labels are read
here, where nothing is chosen any more. Every labelled point of a split counts (`reports/study/answers.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from twominds import artifacts
from twominds.artifacts import Card
from twominds.errors import ArtifactError, MissingInputError
from twominds.model_card import publish
from twominds.pipelines.study.parts import StudyConfig
from twominds.pipelines.study.run import run_study
from twominds.records import Embedding, Failure, Split, View
from twominds.reports.study.answers import (
    answers_of,
    baselines,
    encoder_answers,
    ensemble_answers,
    mean_score,
    scored,
    without,
)
from twominds.reports.study.comparison import read_report
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.report import write_report
from twominds.reports.study.results import Answers, RowResult, StudyResults, what_is_lost
from twominds.reports.study.scores import REPORTED, measured
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.about import read_about
from twominds.results.labelled import clip_rows, is_labelled
from twominds.results.tables import Row
from twominds.scoring.ensemble import EmbeddingsOfClip, Ensemble, training_prior
from twominds.scoring.scorer import encoder_uri
from twominds.storage import require_writable
from twominds.tasks import Classes, Task
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace, require


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluate an ensemble, its encoders and the baselines on validation and test; or make a whole table (`recipe`)."""

    recipe: str = ""
    """A study such as `leya/all`, or recipes (`leya/07,leya/14`): trains what is missing of it, reports it in full."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """With `--recipe`: where its parts come from."""
    compare: str = ""
    """Folder of another report of this job: its ensemble and this one are compared on the clips that both have."""
    push_to: str = ""
    """Folder for the ensemble (of a study: the row that is best on what selects) as a hub repository."""

    ensemble: str = field(default_factory=lambda: Workspace.default().ensemble)
    """Folder of `jobs/tune_fusion.py`."""
    embeddings: str = field(default_factory=lambda: Workspace.default().embeddings)
    """Folder of `jobs/embed.py`, made by the ensemble's own encoders."""
    output: str = field(default_factory=lambda: Workspace.default().report)
    """Folder for the report; local or s3://."""
    address: str | None = None
    """With `--recipe`: a running Ray cluster; by default that of the submitted job, else one started here."""


def evaluate(config: EvaluateConfig) -> Summary:
    """Runs the job; returns what it did.

    With a recipe it is a study: `run_study`.

    Raises:
        MissingInputError: embeddings or the ensemble are not there, or no clip of validation or test has a label, or
            there is no report to compare with.
        ArtifactError: the embeddings were made by other encoders than the ensemble's.
        ConfigError: the report to compare with has none of the clips, or other labels.
    """
    other = read_report(config.compare) if config.compare else None
    if config.recipe:
        return run_study(
            config.recipe, config.study, config.output, push_to=config.push_to, other=other, address=config.address
        )
    require(config.embeddings, what="embeddings", made_by="python jobs/embed.py")
    require(config.ensemble, what="ensemble", made_by="python jobs/tune_fusion.py")
    require_writable(config.output)
    ensemble = Ensemble.load(config.ensemble)
    _check_encoders(config, ensemble.card)
    columns = [f.name for f in tables.embedding_fields(*ensemble.config.views)]
    rows = clip_rows(config.embeddings, [*tables.WITHOUT_WORDS, *columns])
    results = _results(config.ensemble, ensemble, rows)
    summary = write_report(results, config.output, other)
    summary.failures = _failures(rows, ensemble)
    if config.push_to:
        publish(config.ensemble, config.push_to, test_metrics=measured(results))
        summary.add("pushed", f"{config.push_to}, as a hub repository")
    summary.next_step = "serve run serve_configs/ah.yaml"
    if config.ensemble != Workspace.default().ensemble:
        args = f"`ensemble: {config.ensemble}` and `models:` with the bundle it was trained on"
        summary.next_step += f" with {args} (absolute paths) among its args"
    return summary


def _check_encoders(config: EvaluateConfig, card: Card) -> None:
    about, encoders = read_about(config.embeddings), cast("dict[str, str]", card.architecture["encoders"])
    # An ensemble of a search also says of which features; an imported one, or a study's, knows its encoders alone.
    same_features = card.data.get("embeddings", about.fingerprint) == about.fingerprint
    same_encoders = all(about.parts.get(view) == encoder for view, encoder in encoders.items())
    if not (same_features and same_encoders):
        raise ArtifactError(
            f"The embeddings at {config.embeddings} were not made by the encoders of the ensemble at "
            f"{config.ensemble}. Make them with `python jobs/embed.py --encoders {config.ensemble}/encoders`."
        )


def _failures(rows: Sequence[Row], ensemble: Ensemble) -> list[Failure]:
    """Why some clips have no score: they are in quarantine, or nothing of them can be used."""
    aside = [Failure(clip_id=r["clip_id"], stage=r["error_stage"], reason=r["error"]) for r in rows if r["error"]]
    inputs = [_inputs(row, ensemble) for row in rows if not row["error"]]
    return [*aside, *(outcome for outcome in ensemble.score(inputs) if isinstance(outcome, Failure))]


def _inputs(row: Row, ensemble: Ensemble) -> dict[View, Embedding]:
    return {view: tables.embedding_from_row(row, view) for view in ensemble.config.views}


def _results(uri: str, ensemble: Ensemble, rows: Sequence[Row]) -> StudyResults:
    """The answers of the ensemble, of each seed's model and each encoder by itself, and of the baselines.

    Raises:
        MissingInputError: no clip of validation or test has a label.
    """
    card, task = ensemble.card, ensemble.card.task
    labelled = [row for row in rows if is_labelled(row)]
    by_split = {split: [row for row in labelled if row["split"] == split] for split in (Split.TRAIN, *REPORTED)}
    points = {split: _points(found, task) for split, found in by_split.items()}
    train, reported = points[Split.TRAIN], {split: points[split] for split in REPORTED if len(points[split])}
    if not reported:
        raise MissingInputError("No clip of the splits val and test has a label: there is nothing to evaluate on.")
    inputs = {split: [_inputs(row, ensemble) for row in by_split[split]] for split in reported}
    # Of a training elsewhere, where there is none here.
    prior = train.prior(task) if len(train) else tuple(training_prior(card))
    scores = {split: scored(ensemble, found) for split, found in inputs.items()}
    served = {split: answers_of(found, reported[split], prior, task) for split, found in scores.items()}
    # One that was trained jointly may have an embedding, but no answer of its own.
    answering = [v for v in ensemble.config.views if _encoder_card(uri, v).architecture.get("answers", True)]
    parts = [_encoder(view, uri, inputs, reported, prior, task) for view in answering]
    whole = RowResult(
        recipe="ensemble",
        description=_described(ensemble),
        views=ensemble.config.views,
        reports="ensemble",
        answers=served,
        note=what_is_lost(card),
        without=_hidden(ensemble, inputs, reported, prior) if len(ensemble.config.views) > 1 else {},
        seeds=card.seeds,
        parameters=sum(p.numel() for p in next(iter(ensemble.models.values())).parameters()),
        selected_on=cast("SelectionProtocol", card.selected_on),
        weights=card.weights,
        artifact_id=card.artifact_id,
        artifact=uri,
    )
    each_seed = {
        split: ensemble_answers(ensemble, found, reported[split], prior, each_member=True)
        for split, found in inputs.items()
    }
    single = replace(
        whole,
        recipe="single fusion",
        description=f"each of the {len(card.seeds)} seeds by itself",
        reports="single",
        answers=each_seed,
        without={},
    )
    return StudyResults(
        study=card.recipe,
        task=task,
        points=reported,
        train=train,
        prior=prior,
        rows=(*baselines(train, reported, task), *parts, *([single] * (len(card.seeds) > 1)), whole),
        headline=whole.recipe,
        headline_is="the ensemble, as it is served",
        served=served,
        scores=scores,
        failures=sum(bool(row["error"]) for row in rows),
    )


def _points(rows: Sequence[Row], task: Task) -> LabelledPoints:
    """What is known of labelled clips, at the points for which their encoders were asked."""
    cells = [row.get(tables.POINTS) for row in rows]
    points_s = [None if cell is None else np.asarray(cell, np.float64) for cell in cells]
    return LabelledPoints.of([tables.clip_from_row(row) for row in rows], task, points_s)


def _described(ensemble: Ensemble) -> str:
    seeds, members = len(ensemble.card.seeds), len(ensemble.members)
    if members != seeds:
        return f"weighted mean of {members} members"
    what = "probability" if isinstance(ensemble.card.task.output, Classes) else "answer"
    return f"mean {what} of {seeds} seeds" if seeds > 1 else "one seed"


def _encoder_card(ensemble_uri: str, view: View) -> Card:
    return artifacts.read_card(encoder_uri(ensemble_uri, view))


def _encoder(
    view: View,
    ensemble_uri: str,
    inputs: Mapping[Split, Sequence[EmbeddingsOfClip]],
    points: Mapping[Split, LabelledPoints],
    prior: Sequence[float],
    task: Task,
) -> RowResult:
    uri = encoder_uri(ensemble_uri, view)
    card = artifacts.read_card(uri)
    return RowResult(
        recipe=str(view),
        description=f"the {view} encoder by itself",
        views=(view,),
        reports="encoder",
        answers={
            split: encoder_answers([clip[view] for clip in found], points[split], prior, task)
            for split, found in inputs.items()
        },
        seeds=card.seeds,
        parameters=int(card.architecture.get("parameters", 0)),
        selected_on=cast("SelectionProtocol", card.selected_on),
        weights=card.weights,
        artifact_id=card.artifact_id,
        artifact=uri,
    )


def _hidden(
    ensemble: Ensemble,
    inputs: Mapping[Split, Sequence[EmbeddingsOfClip]],
    points: Mapping[Split, LabelledPoints],
    prior: Sequence[float],
) -> dict[View, dict[Split, float]]:
    """The score with one view masked in every clip."""

    def masked(split: Split, view: View) -> Answers:
        return ensemble_answers(ensemble, [without(clip, view) for clip in inputs[split]], points[split], prior)

    return {
        view: {split: mean_score(masked(split, view), points[split], ensemble.card.task) for split in inputs}
        for view in ensemble.config.views
    }
