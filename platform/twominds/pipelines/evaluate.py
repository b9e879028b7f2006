"""Evaluation: embeddings and an ensemble in, the results table out.

    embeddings ─▶ with_scores ─▶ ClipSink ─▶ report

The scores are those of `scoring/`, the same as batch scoring and the service give: a second's work for thousands of
clips, so it is done here and not on the cluster. Test labels are read here, where nothing is chosen any more. Every
number stands beside the baselines that see no video.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from rich.table import Table
from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card, fingerprint
from twominds.errors import ArtifactError, MissingInputError
from twominds.model_card import publish
from twominds.pipelines import tables
from twominds.pipelines.about import About, claim_folder, read_about
from twominds.pipelines.model_stages import with_scores
from twominds.pipelines.quarantine import read_quarantine
from twominds.pipelines.renewal import renew
from twominds.pipelines.sink import ClipSink
from twominds.pipelines.study.parts import StudyConfig
from twominds.pipelines.study.run import run_study
from twominds.pipelines.summary import Summary
from twominds.pipelines.tables import Row
from twominds.records import Modality, Split
from twominds.scoring.ensemble import Ensemble, EnsembleConfig
from twominds.storage import require_writable
from twominds.training.metrics import grouped_macro_f1, macro_f1, majority_baseline, question_baseline
from twominds.workspace import Workspace, require

REPORTED = (Split.VALIDATION, Split.TEST)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluate an ensemble, its encoders and the baselines on validation and test; or make a whole table (`recipe`)."""

    recipe: str = ""
    """A study such as `leya/all`, or recipes (`leya/07,leya/14`): trains what is missing of it, reports it in full."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """With `--recipe`: where its parts come from."""
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


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One line of the results table."""

    model: str
    mf1: dict[Split, float]
    """Macro F1 per split, in [0, 1]."""
    spread: dict[Split, float] = field(default_factory=dict[Split, float])
    """Standard deviation over the seeds, where there are several models."""
    absent: dict[Split, int] = field(default_factory=dict[Split, int])
    """Clips without the modality; the training majority is predicted for them."""


def evaluate(config: EvaluateConfig) -> Summary:
    """Runs the job; returns what it did.

    With a recipe see `run_study`.

    Raises:
        MissingInputError: embeddings or the ensemble are not there, or no clip of them has a label.
        ArtifactError: the embeddings were made by other encoders than the ensemble's.
    """
    if config.recipe:
        return run_study(config.recipe, config.study, config.output, push_to=config.push_to, address=config.address)
    require(config.embeddings, what="embeddings", made_by="python jobs/embed.py")
    require(config.ensemble, what="ensemble", made_by="python jobs/tune_fusion.py")
    require_writable(config.output)
    card, _ = artifacts.verified(config.ensemble)
    about = read_about(config.embeddings)
    encoders: dict[str, str] = card.architecture["encoders"]
    # An ensemble of a search also says of which features; an imported one, or a study's, knows its encoders alone.
    same_features = card.data.get("embeddings", about.fingerprint) == about.fingerprint
    same_encoders = all(about.parts.get(Modality(modality)) == encoder for modality, encoder in encoders.items())
    if not (same_features and same_encoders):
        raise ArtifactError(
            f"The embeddings at {config.embeddings} were not made by the encoders of the ensemble at "
            f"{config.ensemble}. Make them with `python jobs/embed.py --encoders {config.ensemble}/encoders`."
        )
    modalities = artifacts.from_json(EnsembleConfig, card.config).modalities
    scored = _score(config, card, about, modalities)
    labelled = [row for row in tables.read_rows(scored) if row["label"] is not None]
    train = [
        r for r in tables.read_rows(config.embeddings, ["label", "question"], [Split.TRAIN]) if r["label"] is not None
    ]
    if not labelled or not train:
        raise MissingInputError(f"No clip of {config.embeddings} has a label: there is nothing to evaluate on.")
    results = results_table(labelled, train, card, modalities)
    questions = per_question(labelled, card.task.num_classes)
    summary = _report(config, card, results, questions, labelled)
    if config.push_to:
        measured = {f"{split.name.lower()}_mf1": mf1 for split, mf1 in results[-1].mf1.items()}
        publish(config.ensemble, config.push_to, test_metrics=measured)
        summary.add("pushed", f"{config.push_to}, as a hub repository")
    summary.failures = read_quarantine(scored)
    summary.add("clips that could not be scored", len(summary.failures))
    return summary


def _score(config: EvaluateConfig, card: Card, about: About, modalities: Sequence[Modality]) -> str:
    """Scores what is not scored yet; returns the folder of the scores."""
    uri = f"{config.output}/scores-{fingerprint(card.artifact_id, about.corpus, about.fingerprint)}"
    claim_folder(uri, About(recipe=card.recipe, corpus=about.corpus, models=about.models, fingerprint=card.artifact_id))
    clips = tables.read_clips(config.embeddings)
    done = renew(uri, clips).done
    if all(clip.clip_id in done for clip in clips):
        return uri
    ensemble, sink = Ensemble.load(config.ensemble), ClipSink(uri, tables.scored_columns(modalities))
    for table in tables.read_tables(config.embeddings):
        left = pa.array([clip_id not in done for clip_id in table["clip_id"].to_pylist()], pa.bool_())
        sink.write_table(with_scores(table.filter(left), ensemble))
    return uri


def results_table(
    rows: Sequence[Row], train: Sequence[Row], card: Card, modalities: Sequence[Modality] = tuple(Modality)
) -> list[ResultRow]:
    """Baselines, encoders, single fusion and ensemble on every reported split that has labels.

    Args:
        rows: Scored clips with their labels.
        train: Labels and questions of the training split, which the baselines learn from.
        card: The ensemble's.
        modalities: What it looks at.
    """
    classes = card.task.num_classes
    train_labels = [row["label"] for row in train]
    by_split = {split: [row for row in rows if row["split"] == split] for split in REPORTED}
    by_split = {split: found for split, found in by_split.items() if found}
    labels = {split: [row["label"] for row in found] for split, found in by_split.items()}
    majority = {split: majority_baseline(train_labels, len(found), classes) for split, found in by_split.items()}

    def row_of(model: str, predictions: dict[Split, list[int]], absent: dict[Split, int] | None = None) -> ResultRow:
        mf1 = {split: macro_f1(labels[split], predictions[split], classes) for split in by_split}
        return ResultRow(model=model, mf1=mf1, absent=absent or {})

    questions = {
        split: question_baseline(train_labels, [r["question"] for r in train], [r["question"] for r in found], classes)
        for split, found in by_split.items()
    }
    results = [
        row_of("majority (baseline)", {s: majority[s].tolist() for s in by_split}),
        row_of("question only (baseline)", {s: questions[s].tolist() for s in by_split}),
    ]
    for modality in modalities:
        name = f"{modality}_probabilities"
        predictions = {
            split: [
                int(majority[split][i]) if row[name] is None else int(np.argmax(row[name]))
                for i, row in enumerate(found)
            ]
            for split, found in by_split.items()
        }
        absent = {split: sum(row[name] is None for row in found) for split, found in by_split.items()}
        results.append(row_of(str(modality), predictions, absent=absent))
    return [*results, _single(by_split, labels, card), row_of("ensemble", _predicted(by_split))]


def _single(by_split: dict[Split, list[Row]], labels: dict[Split, list[int]], card: Card) -> ResultRow:
    """The seed models one by one: mean and spread of their MF1."""
    mf1: dict[Split, list[float]] = {}
    for split, rows in by_split.items():
        positive = np.array([row["seed_probabilities"] for row in rows])
        thresholds = np.array([row["threshold"] for row in rows])
        mf1[split] = [
            macro_f1(labels[split], (positive[:, i] >= thresholds).astype(np.int64), card.task.num_classes)
            for i in range(len(card.seeds))
        ]
    return ResultRow(
        model=f"single fusion (mean of {len(card.seeds)} seeds)",
        mf1={split: float(np.mean(values)) for split, values in mf1.items()},
        spread={split: float(np.std(values)) for split, values in mf1.items()},
    )


def _predicted(by_split: dict[Split, list[Row]]) -> dict[Split, list[int]]:
    return {split: [row["predicted"] for row in rows] for split, rows in by_split.items()}


def per_question(rows: Sequence[Row], num_classes: int) -> dict[str, dict[str, float]]:
    """MF1 of the ensemble per question and split."""
    table: dict[str, dict[str, float]] = {}
    for split in REPORTED:
        found = [row for row in rows if row["split"] == split]
        scores = grouped_macro_f1(
            [r["label"] for r in found], [r["predicted"] for r in found], [r["question"] for r in found], num_classes
        )
        for question, score in scores.items():
            table.setdefault(question, {})[split] = score.macro_f1
    return table


def _report(
    config: EvaluateConfig,
    card: Card,
    results: list[ResultRow],
    questions: dict[str, dict[str, float]],
    rows: Sequence[Row],
) -> Summary:
    folder = UPath(config.output)
    counts = Counter(row["split"] for row in rows)
    title = "Macro F1 on " + " and ".join(f"{counts[split]} {split.name.lower()}" for split in REPORTED) + " clips"
    table = Table("model", "validation MF1", "test MF1", "absent (val/test)", title=title)
    lines = ["| model | validation MF1 | test MF1 |", "|---|---|---|"]
    for result in results:
        cells = [_cell(result, split) for split in REPORTED]
        absent = "/".join(str(result.absent[split]) for split in REPORTED if split in result.absent)
        table.add_row(result.model, *cells, absent)
        lines.append(f"| {result.model} | {cells[0]} | {cells[1]} |")
    by_question = Table("question", "validation MF1", "test MF1", title="Ensemble, per question")
    for question, scores in questions.items():
        by_question.add_row(question, *(f"{scores[s]:.3f}" if s in scores else "-" for s in REPORTED))
    reported = "; test is only reported" if card.selected_on == "validation" else ", so test scores are optimistic"
    protocol = (
        f"Selected on {card.selected_on}{reported}. Weights: {card.weights}. "
        f"Ensemble {card.artifact_id} of recipe {card.recipe}, seeds {', '.join(map(str, card.seeds))}."
    )
    (folder / "results.md").write_text("\n".join([*lines, "", protocol, ""]))
    (folder / "results.json").write_text(
        json.dumps(
            {
                "results": [{"model": r.model, "mf1": r.mf1, "spread": r.spread, "absent": r.absent} for r in results],
                "per_question": questions,
                "artifact_id": card.artifact_id,
                "selected_on": card.selected_on,
                "weights": card.weights,
            },
            indent=2,
        )
    )
    (folder / "scores.csv").write_text(_scores_csv(rows))
    summary = Summary(title=f"Evaluation of {card.recipe}", where=config.output, tables=[table, by_question])
    summary.add("protocol", protocol)
    summary.add("files", "results.md, results.json, scores.csv")
    summary.next_step = "serve run serve_configs/ah.yaml"
    if config.ensemble != Workspace.default().ensemble:
        args = f"`ensemble: {config.ensemble}` and `models:` with the bundle it was trained on"
        summary.next_step += f" with {args} (absolute paths) among its args"
    return summary


def _cell(result: ResultRow, split: Split) -> str:
    if split not in result.mf1:
        return "-"
    spread = f" +- {result.spread[split]:.3f}" if split in result.spread else ""
    return f"{result.mf1[split]:.3f}{spread}"


def _scores_csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["clip_id", "split", "label", "predicted", "probability"])
    for row in rows:
        writer.writerow([row["clip_id"], row["split"], row["label"], row["predicted"], repr(row["probabilities"][-1])])
    return buffer.getvalue()
