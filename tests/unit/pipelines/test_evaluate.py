"""The evaluation of an ensemble, from its embeddings to the report: without Ray."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
import torch
from sklearn import metrics

from twominds import artifacts
from twominds.artifacts import Card
from twominds.errors import MissingInputError
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ConcatMLPConfig
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.model_stages import with_scores
from twominds.pipelines.sink import ClipSink
from twominds.pipelines.stages import ERROR_FIELDS
from twominds.records import Clip, Embedding, Modality, Split, View, clip_labels
from twominds.reports.study.report import FILES
from twominds.reports.submission import submission
from twominds.results import score_rows, tables
from twominds.results.about import claim_folder, read_about
from twominds.results.quarantine import quarantined_clips
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.scoring.members import EnsembleConfig, seed_name
from twominds.tasks import AH_VIDEO

DIM = 4
SILENT, FACELESS = "clip-025", "clip-033"
"""Of a validation clip nothing could be used, of a test clip no face was found."""
BROKEN = {"decode": (Split.VALIDATION, 1), "features.face": (Split.TEST, 1), "encoders.text": (Split.TEST, 0)}
"""Split and label of the clips that fail in each stage before the fusion."""


@pytest.fixture
def config(tmp_path: Path, write_embeddings: Callable[..., None]) -> EvaluateConfig:
    """An untrained ensemble of two seeds, and embeddings of 20 + 10 + 10 clips; three more are in quarantine."""
    ensemble, embeddings, output = (str(tmp_path / name) for name in ("ensemble", "embeddings", "output"))
    config = EvaluateConfig(ensemble=ensemble, embeddings=embeddings, output=output)
    write_embeddings(str(tmp_path), train=20, validation=10, test=10, dim=DIM)
    encoders: dict[View, str] = {m: str(tmp_path / "encoders" / m) for m in Modality}
    parts = {m: artifacts.read_card(uri).artifact_id for m, uri in encoders.items()}
    about = replace(read_about(config.embeddings), parts=parts)
    (Path(config.embeddings) / "_about.json").unlink()
    claim_folder(config.embeddings, about)
    whole = Path(config.embeddings) / "all.parquet"
    table = pq.read_table(whole)
    rows = table.to_pylist()
    for row in rows:
        row["video_uri"] = f"/videos/{row['clip_id']}.mp4"
        row["question"] = 1 + int(row["clip_id"][-1]) % 3
        odds = np.exp(row["face_vector"][0] - 0.5)
        row["face_probabilities"] = [1 / (1 + odds), odds / (1 + odds)]
    for m in Modality:
        rows[25] |= {f"{m}_present": False, f"{m}_reason": "the file breaks off"}
        rows[25] |= {f"{m}_vector": None, f"{m}_probabilities": None}
    rows[33] |= {"face_present": False, "face_reason": "no face", "face_vector": None, "face_probabilities": None}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), whole)
    for stage, (split, label) in BROKEN.items():
        clip = Clip(clip_id=stage, video_uri=f"/videos/{stage}.mp4", split=split, labels=clip_labels(label))
        ClipSink(config.embeddings, []).quarantine([clip], stage=stage, reason=f"{clip.video_uri} is broken.")
    fusion, dims = ConcatMLPConfig(hidden_dim=8, dropout=0.0), {str(m): DIM for m in Modality}
    states: dict[str, dict[str, torch.Tensor]] = {
        seed_name(seed): build_fusion(fusion, dims=dims, num_outputs=2, seed=seed).state_dict() for seed in (42, 2025)
    }
    labels = {"train_labels": {"no_ah": 10, "ah": 10}}
    card = Card(kind="ensemble", task=AH_VIDEO, recipe="leya/demo", config={}, data=labels)
    save_ensemble(config.ensemble, states, EnsembleConfig(fusion=fusion), dims=dims, encoders=encoders, card=card)
    return config


def report_of(config: EvaluateConfig) -> dict[str, Any]:
    return json.loads((Path(config.output) / "results.json").read_text())


def mf1(labels: Sequence[int], predicted: Sequence[int]) -> float:
    f1_score = cast(Any, metrics).f1_score
    return float(f1_score(labels, predicted, average="macro", labels=[0, 1], zero_division=0))


def test_every_labelled_clip_counts_and_one_without_a_score_gets_the_majority(
    config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", None)  # nobody starts it
    summary = evaluate(config)
    rows = [row for row in tables.read_rows(config.embeddings) if row["clip_id"] != SILENT]
    clips: list[dict[View, Embedding]] = [{m: tables.embedding_from_row(row, m) for m in Modality} for row in rows]
    by_seed = Ensemble.load(config.ensemble).probabilities(clips)[..., 1]
    assert np.ptp(by_seed.mean(axis=0)) > 0.01
    truth = {
        row["clip_id"]: (row["split"], tables.clip_from_row(row).label or 0)
        for row in tables.read_rows(config.embeddings)
    }
    truth |= {clip_id: (split.value, label) for clip_id, (split, label) in BROKEN.items()}
    scored = {row["clip_id"]: float(p) for row, p in zip(rows, by_seed.mean(axis=0), strict=True)}
    with (Path(config.output) / "scores.csv").open() as file:
        lines = {row["clip_id"]: row for row in csv.DictReader(file)}
    reported = {i for i, (split, _) in truth.items() if split in ("val", "test")}
    assert set(lines) == reported
    for clip_id, line in lines.items():
        assert (line["split"], int(line["label"])) == truth[clip_id]
        assert line["predicted"] == str(int(scored.get(clip_id, 0.0) >= 0.5)), "the first of equals is the majority"
        if clip_id in scored:
            assert float(line["probability"]) == pytest.approx(scored[clip_id], abs=1e-6)
        else:
            assert line["probability"] == ""
    found = {row["recipe"]: row for row in report_of(config)["rows"]}
    assert list(found) == ["majority", "question only", *Modality, "single fusion", "ensemble"]
    for split, without in (("val", 2), ("test", 2)):
        ids = [i for i in sorted(reported) if truth[i][0] == split]
        assert report_of(config)["clips"][split] == len(ids) == {"val": 11, "test": 12}[split]
        labels = [truth[i][1] for i in ids]
        whole = found["ensemble"]["splits"][split]
        assert whole["unseen"] == without
        assert whole["score"]["value"] == pytest.approx(mf1(labels, [int(scored.get(i, 0.0) >= 0.5) for i in ids]))
        at = {row["clip_id"]: column for column, row in enumerate(rows)}
        of_seeds = [mf1(labels, [int(i in at and own[at[i]] >= 0.5) for i in ids]) for own in by_seed]
        assert found["single fusion"]["splits"][split]["by_model"] == pytest.approx(of_seeds)
        faces = {row["clip_id"]: row["face_probabilities"] for row in rows if row["face_probabilities"]}
        assert found["face"]["splits"][split]["unseen"] == without + (split == "test"), FACELESS
        predicted = [int(i in faces and faces[i][1] > 0.5) for i in ids]
        assert found["face"]["splits"][split]["score"]["value"] == pytest.approx(mf1(labels, predicted))
    reasons = {failure.clip_id: (failure.stage, failure.reason) for failure in summary.failures}
    assert reasons.keys() == {SILENT, *BROKEN}
    assert reasons["decode"] == ("decode", "The file is broken.")
    assert reasons[SILENT][0] == "fusion"
    assert "the file breaks off" in reasons[SILENT][1]


def test_the_report_is_that_of_a_study(config: EvaluateConfig) -> None:
    evaluate(config)
    assert sorted(path.name for path in Path(config.output).iterdir()) == sorted(FILES)
    report = report_of(config)
    assert (report["headline"], report["quarantined"]) == ("ensemble", 3)
    drops = {drop["view"]: drop["score"]["test"] for drop in report["modality_drop"]}
    assert drops.keys() == set(Modality)
    rows = tables.read_rows(config.embeddings, None, [Split.TEST])
    clips: list[dict[View, Embedding]] = [
        {m: tables.embedding_from_row(row, m) for m in Modality if m != Modality.FACE} for row in rows
    ]
    blind = Ensemble.load(config.ensemble)
    hidden: dict[View, Embedding] = {Modality.FACE: tables.embedding_from_row(rows[3], Modality.FACE)}
    assert not hidden[Modality.FACE].presence.present
    chance = blind.probabilities([clip | hidden for clip in clips])[..., 1].mean(axis=0)
    labels = [
        *(tables.clip_from_row(row).label or 0 for row in rows),
        *(label for split, label in BROKEN.values() if split == Split.TEST),
    ]
    assert drops[Modality.FACE] == pytest.approx(mf1(labels, [*(int(p >= 0.5) for p in chance), 0, 0]))


def test_two_reports_are_compared(config: EvaluateConfig, tmp_path: Path) -> None:
    evaluate(config)
    again = replace(config, output=str(tmp_path / "again"), compare=config.output)
    facts = dict(evaluate(again).facts)
    assert "difference +0.00 [0.00, 0.00]" in facts["  on test"]
    assert report_of(again)["comparison"]["splits"]["test"]["clips"] == 12


def test_without_training_clips_there_are_no_baselines_and_the_card_knows_the_majority(config: EvaluateConfig) -> None:
    path = Path(config.embeddings) / "all.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.field("split") != Split.TRAIN.value), path)
    evaluate(config)
    report = report_of(config)
    assert [row["recipe"] for row in report["rows"]] == [*Modality, "single fusion", "ensemble"]
    with (Path(config.output) / "scores.csv").open() as file:
        assert {row["predicted"] for row in csv.DictReader(file) if row["clip_id"] in BROKEN} == {"0"}
    pq.write_table(table.filter(pc.field("split") == Split.TRAIN.value), path)
    for aside in (Path(config.embeddings) / "quarantine").iterdir():
        aside.unlink()
    with pytest.raises(MissingInputError, match="No clip of the splits val and test has a label"):
        evaluate(config)


def test_a_clip_that_fails_in_any_stage_has_a_line_in_the_submission(config: EvaluateConfig, tmp_path: Path) -> None:
    ensemble, rows = Ensemble.load(config.ensemble), tables.read_rows(config.embeddings)
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    schema = pa.schema([*fields, *tables.embedding_fields(*Modality), *ERROR_FIELDS])
    known = [row | {"error_stage": "", "error": ""} for row in rows]
    broken = [
        {"clip_id": stage, "video_uri": f"/v/{stage}.mp4", "error_stage": stage, "error": "broken"} for stage in BROKEN
    ]
    scored = with_scores(pa.Table.from_pylist([*known, *broken], schema=schema), ensemble)
    ClipSink(str(tmp_path / "scores"), score_rows.scored_columns(tuple(Modality))).write_table(scored)
    aside = {clip.clip_id: failure.stage for clip, failure in quarantined_clips(str(tmp_path / "scores"))}
    assert aside == {SILENT: "fusion"} | {stage: stage for stage in BROKEN}
    ids = sorted([*(row["clip_id"] for row in rows), *BROKEN])
    by_id = {row["clip_id"]: row for row in tables.read_rows(str(tmp_path / "scores"))}
    lines = list(csv.DictReader(submission(ids, by_id, ensemble.card).splitlines()))
    assert [line["id"] for line in lines] == ids
    guessed = {line["id"] for line in lines if (line["p0"], line["pred"]) == ("0.500000000", "0")}
    assert guessed == {SILENT, *BROKEN}
