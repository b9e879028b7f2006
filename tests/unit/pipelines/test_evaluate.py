"""The evaluation of an ensemble, from its embeddings to the report: without Ray."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch

from twominds import artifacts
from twominds.artifacts import Card
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ConcatMLPConfig
from twominds.pipelines import tables
from twominds.pipelines.about import claim_folder, read_about
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.records import AH_VIDEO, Modality, Split
from twominds.scoring.ensemble import Ensemble, EnsembleConfig, save_ensemble

DIM = 4
SILENT = "clip-025"


@pytest.fixture
def config(tmp_path: Path, write_embeddings: Callable[..., None]) -> EvaluateConfig:
    """An untrained ensemble of two seeds; of one validation clip nothing could be used. Two files of 20 clips."""
    ensemble, embeddings, output = (str(tmp_path / name) for name in ("ensemble", "embeddings", "output"))
    config = EvaluateConfig(ensemble=ensemble, embeddings=embeddings, output=output)
    write_embeddings(str(tmp_path), train=20, validation=10, test=10, dim=DIM)
    encoders = {m: str(tmp_path / "encoders" / m) for m in Modality}
    parts = {m: artifacts.read_card(uri).artifact_id for m, uri in encoders.items()}
    about = replace(read_about(config.embeddings), parts=parts)
    (Path(config.embeddings) / "_about.json").unlink()
    claim_folder(config.embeddings, about)
    whole = Path(config.embeddings) / "all.parquet"
    table = pq.read_table(whole)
    rows = table.to_pylist()
    rows[25]["video_uri"] = "/videos/25.mp4"
    for m in Modality:
        rows[25] |= {f"{m}_present": False, f"{m}_reason": "the file breaks off", f"{m}_vector": None}
    for name, part in (("a", rows[:20]), ("b", rows[20:])):
        pq.write_table(pa.Table.from_pylist(part, schema=table.schema), whole.with_stem(name))
    whole.unlink()
    fusion, dims = ConcatMLPConfig(hidden_dim=8, dropout=0.0), dict.fromkeys(Modality, DIM)
    states: dict[int, dict[str, torch.Tensor]] = {
        seed: build_fusion(fusion, dims=dims, num_classes=2, seed=seed).state_dict() for seed in (42, 2025)
    }
    card = Card(kind="ensemble", task=AH_VIDEO, recipe="leya/demo", config={})
    save_ensemble(config.ensemble, states, EnsembleConfig(fusion=fusion), dims=dims, encoders=encoders, card=card)
    return config


def test_the_report_says_what_the_ensemble_says(config: EvaluateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", None)  # nobody starts it
    summary = evaluate(config)
    assert [(failure.clip_id, failure.stage) for failure in summary.failures] == [(SILENT, "fusion")]
    assert "the file breaks off" in summary.failures[0].reason
    rows = [row for row in tables.read_rows(config.embeddings) if row["clip_id"] != SILENT]
    clips = [{m: tables.embedding_from_row(row, m) for m in Modality} for row in rows]
    expected = Ensemble.load(config.ensemble).probabilities(clips)[..., 1].mean(axis=0)
    with (Path(config.output) / "scores.csv").open() as file:
        scores = {row["clip_id"]: float(row["probability"]) for row in csv.DictReader(file)}
    assert list(scores) == [row["clip_id"] for row in rows]
    assert [*scores.values()] == pytest.approx(list(expected), abs=1e-6)
    assert np.ptp(expected) > 0.01
    test = [i for i, row in enumerate(rows) if row["split"] == Split.TEST.value]
    truth, answers = np.array([rows[i]["label"] for i in test]), expected[test] >= 0.5
    hits = [((truth == c) & (answers == c)).sum() for c in (0, 1)]
    f1 = np.mean([2 * hits[c] / ((truth == c).sum() + (answers == c).sum()) for c in (0, 1)])
    results = json.loads((Path(config.output) / "results.json").read_text())["results"]
    assert results[-1]["model"] == "ensemble"
    assert results[-1]["mf1"]["test"] == pytest.approx(f1)


def test_only_what_is_missing_is_scored_again(config: EvaluateConfig) -> None:
    evaluate(config)
    scores = {path: path.stat().st_mtime_ns for path in Path(config.output).glob("scores-*/*.parquet")}
    assert len(scores) == 2
    lost = next(iter(scores))
    lost.unlink()
    evaluate(config)
    again = {path: path.stat().st_mtime_ns for path in Path(config.output).glob("scores-*/*.parquet")}
    assert again.keys() == scores.keys()
    assert [path for path in again if again[path] != scores[path]] == [lost]
