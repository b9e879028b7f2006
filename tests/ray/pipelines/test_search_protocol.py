"""A search under the paper's protocol: the same job, and everything that it makes says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds import artifacts
from twominds.artifacts import Card
from twominds.pipelines import tables
from twominds.pipelines.about import About, claim_folder
from twominds.pipelines.search import SearchConfig, search_fusion
from twominds.records import AH_VIDEO, PRESENT, Clip, Embedding, Modality, Split

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def workspace(root: Path) -> SearchConfig:
    """Embeddings of 40 clips, ten of them in the test split, and stand-ins for the encoders."""
    rng, rows = np.random.default_rng(0), list[tables.Row]()
    for i in range(40):
        split = Split.TRAIN if i < 20 else Split.VALIDATION if i < 30 else Split.TEST
        clip = Clip(clip_id=f"{i:02}", video_uri="", split=split, label=i % 2)
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        for modality in Modality:
            vector = (rng.standard_normal(4) + i % 2).astype(np.float32)
            embedding = Embedding(clip_id=clip.clip_id, modality=modality, presence=PRESENT, vector=vector)
            row |= tables.embedding_to_row(embedding)
        rows.append(row)
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    schema = pa.schema([*fields, *(field for modality in Modality for field in tables.embedding_fields(modality))])
    claim_folder(str(root / "e"), About(recipe="leya/demo", corpus="drawn", fingerprint="0" * 12, models="none"))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "e" / "all.parquet")
    for modality in Modality:
        card = Card(kind="encoder", task=AH_VIDEO, recipe="leya/demo", config={})
        artifacts.save(str(root / "encoders" / modality), {"w": torch.zeros(1)}, card)
    return SearchConfig(
        embeddings=str(root / "e"),
        encoders=str(root / "encoders"),
        output=str(root / "search"),
        ensemble=str(root / "ensemble"),
        protocol="validation+test",
        trials=1,
    )


def test_a_search_that_saw_the_test_split_says_so(ray_session: None, tmp_path: Path) -> None:
    config = workspace(tmp_path)
    summary = search_fusion(config)
    card = artifacts.read_card(config.ensemble)
    assert card.selected_on == "validation+test"
    facts = dict(summary.facts)
    assert facts["selected_on"] == "validation+test"
    assert "best on validation+test" in facts
    (run,) = (tmp_path / "search").iterdir()
    (trial,) = pq.read_table(run / "trials.parquet").to_pylist()
    assert trial["mean_mf1"] == pytest.approx(card.metrics["selection_mf1_mean"])
    assert card.metrics["validation_mf1_mean"] == pytest.approx(sum(card.metrics["validation_mf1"].values()) / 5)
