"""The evaluation of a task per frame from its files to the report: every number worked out by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds import artifacts
from twominds.artifacts import Card
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ClassWeightedConfig
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.sink import ClipSink
from twominds.records import PRESENT, Clip, Embedding, Labels, Split, View, absent
from twominds.results import tables
from twominds.results.about import About, claim_folder
from twominds.scoring.decision import Decision, Smooth
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.members import EnsembleConfig, seed_name
from twominds.tasks import AH_FRAME

VIEWS: tuple[View, ...] = ("face.effnet", "text")
TRAIN = ([0, 0, 1], [0, 0, 0])
TEST = ([0, 1, 1, -1], [1, 0])
"""Of each frame; -1: nobody said. Of the second clip there is nothing to see or hear."""
BROKEN = [1, 0, 0]
"""Of a test clip that could not be read."""
FACE, TEXT = [-3.0, -1.0, 3.0, 1.0], [-1.0, -1.0, 1.0, -9.0]
"""Half the difference of the two classes' logits on the first test clip: the fusion takes the mean of both."""


def labels(classes: list[int]) -> Labels:
    values = np.array(classes, np.float32)[:, None]
    return Labels(values=np.maximum(values, 0), known=values[:, 0] >= 0)


def row_of(split: Split, number: int, classes: list[int], logits: tuple[list[float], list[float]] | None) -> tables.Row:
    clip = Clip(
        clip_id=f"{split}-{number}", video_uri="", split=split, labels=labels(classes), participant_id=f"p{number}"
    )
    row = {name: cell for name, cell in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
    points_s = np.arange(len(classes)) / 2
    for i, view in enumerate(VIEWS):
        embedding = Embedding(clip_id=clip.clip_id, view=view, presence=absent("nothing"), points_s=points_s)
        if logits is not None:
            half = np.array(logits[i], np.float32)
            both = np.stack([-half, half], axis=1)
            chance = 1 / (1 + np.exp(-2 * half))
            said = np.stack([1 - chance, chance], axis=1)
            embedding = replace(embedding, presence=PRESENT, vectors=both, logits=both, probabilities=said)
        row |= tables.embedding_to_row(embedding)
    return row


@pytest.fixture
def config(tmp_path: Path) -> EvaluateConfig:
    rows = [row_of(Split.TRAIN, i, classes, ([0.0] * 3, [0.0] * 3)) for i, classes in enumerate(TRAIN)]
    rows += [row_of(Split.TEST, 0, TEST[0], (FACE, TEXT)), row_of(Split.TEST, 1, TEST[1], None)]
    encoders = {view: str(tmp_path / "encoders" / view) for view in VIEWS}
    for uri in encoders.values():
        artifacts.save(uri, {"w": torch.zeros(1)}, Card(kind="encoder", task=AH_FRAME, recipe="leya/demo", config={}))
    parts = {view: artifacts.read_card(uri).artifact_id for view, uri in encoders.items()}
    ensemble, embeddings, output = (str(tmp_path / name) for name in ("ensemble", "embeddings", "output"))
    config = EvaluateConfig(ensemble=ensemble, embeddings=embeddings, output=output)
    claim_folder(
        config.embeddings,
        About(recipe="leya/demo", corpus="drawn", fingerprint="0" * 12, models="none", parts=parts),
    )
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    schema = pa.schema([*fields, *tables.embedding_fields(*VIEWS)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), Path(config.embeddings) / "all.parquet")
    broken = Clip(clip_id="broken", video_uri="", split=Split.TEST, labels=labels(BROKEN), participant_id="p0")
    ClipSink(config.embeddings, []).quarantine([broken], stage="decode", reason="It is broken.")
    fusion, dims = ClassWeightedConfig(), dict.fromkeys(VIEWS, 2)
    states = {
        seed_name(seed): build_fusion(fusion, dims=dims, num_outputs=2, seed=seed).state_dict() for seed in (1, 2)
    }
    settings = EnsembleConfig(
        fusion=fusion, inputs="logits", views=VIEWS, decision=Decision(steps=(Smooth(radius=1, unit="points"),))
    )
    card = Card(kind="ensemble", task=AH_FRAME, recipe="made/up", config={})
    save_ensemble(config.ensemble, states, settings, dims=dims, encoders=encoders, card=card)
    return config


def test_frames_from_files_to_the_report(config: EvaluateConfig, tmp_path: Path) -> None:
    """Mean logits -2, -1, 2, -4 (half differences) are chances of .018, .119, .982, .000: smoothed .07, .37, .37."""
    summary = evaluate(config)
    report = json.loads((Path(config.output) / "results.json").read_text())
    assert (report["task"], report["metric"], report["headline"]) == ("ah-frame", "weighted_f1", "ensemble")
    assert (report["clips"], report["points"]) == ({"train": 2, "test": 3}, {"train": 6, "test": 8})
    assert report["people"] == {"test": 2}
    rows = {row["recipe"]: row["splits"]["test"] for row in report["rows"]}
    assert list(rows) == ["majority", *VIEWS, "single fusion", "ensemble"]
    # Sorted by id: the broken clip 1, 0, 0, then 0, 1, 1, then 1, 0. Nothing comes to .5: all are answered with 0,
    # 4 of 8 rightly, so that class 0 has an F1 of 2 * 4 / (8 + 4), and class 1 of 0.
    assert rows["majority"]["score"]["value"] == rows["ensemble"]["score"]["value"] == pytest.approx((4 * 2 / 3) / 8)
    assert (rows["ensemble"]["confusion"], rows["ensemble"]["unseen"]) == ([[4, 0], [4, 0]], 2)
    # The face is not smoothed: it says 0, 0, 1. Class 0: 2 * 4 / (7 + 4), class 1: 2 * 1 / (1 + 4).
    assert rows["face.effnet"]["score"]["value"] == pytest.approx((4 * 8 / 11 + 4 * 2 / 5) / 8)
    with (Path(config.output) / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["clip_id"], line["point"], line["time_s"]) for line in lines] == [
        *(("broken", "0", ""), ("broken", "1", ""), ("broken", "2", "")),
        *(("test-0", "0", "0.0"), ("test-0", "1", "0.5"), ("test-0", "2", "1.0")),
        *(("test-1", "0", "0.0"), ("test-1", "1", "0.5")),
    ]
    chances = 1 / (1 + np.exp(-2 * np.array([-2.0, -1.0, 2.0, -4.0])))
    smooth = [chances[:2].mean(), chances[:3].mean(), chances[1:].mean()]
    assert [line["probability"] != "" for line in lines] == [False] * 3 + [True] * 3 + [False] * 2
    assert [float(line["probability"]) for line in lines[3:6]] == pytest.approx(smooth)
    assert [line["label"] for line in lines] == ["1", "0", "0", "0", "1", "1", "1", "0"]
    # With the text hidden the face is smoothed alone: .062, .373, .666. Class 0: 2 * 4 / (7 + 4), class 1: 2 / (1 + 4).
    drops = {drop["view"]: drop["score"]["test"] for drop in report["modality_drop"]}
    assert drops == {"text": pytest.approx((4 * 8 / 11 + 4 * 2 / 5) / 8), "face.effnet": pytest.approx((4 * 2 / 3) / 8)}
    assert {failure.clip_id for failure in summary.failures} == {"broken", "test-1"}
    again = evaluate(replace(config, output=str(tmp_path / "again"), compare=config.output))
    assert "of 8 frames of 3 clips 0 only this one gets right" in dict(again.facts)["  on test"]
