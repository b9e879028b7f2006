"""A search whose driver is killed goes on where it was: the same number of trials, no seed trained twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds import artifacts
from twominds.artifacts import Card, to_json
from twominds.pipelines import tables
from twominds.pipelines.about import About
from twominds.records import AH_VIDEO, PRESENT, Clip, Embedding, Modality, Split

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 3


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of 60 clips, in which every modality tells a little of the label, and stand-ins for the encoders."""
    root = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    rows: list[tables.Row] = []
    for i in range(60):
        label = i % 2
        clip = Clip(
            clip_id=f"clip-{i:02}", video_uri="", split=Split.TRAIN if i < 40 else Split.VALIDATION, label=label
        )
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        for modality in Modality:
            vector = (rng.standard_normal(8) + label).astype(np.float32)
            embedding = Embedding(clip_id=clip.clip_id, modality=modality, presence=PRESENT, vector=vector)
            row |= tables.embedding_to_row(embedding)
        rows.append(row)
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    fields += [field for modality in Modality for field in tables.embedding_fields(modality)]
    schema = pa.schema(fields)
    (root / "embeddings").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "embeddings" / "all.parquet")
    about = About(recipe="leya/demo", corpus="drawn", fingerprint="0" * 12, models="none")
    (root / "embeddings" / "_about.json").write_text(json.dumps(to_json(about)))
    for modality in Modality:
        card = Card(kind="encoder", task=AH_VIDEO, recipe="leya/demo", config={})
        artifacts.save(str(root / "encoders" / modality), {"w": torch.zeros(1)}, card)
    return root


def start(root: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "jobs/tune_fusion.py", "--trials", str(TRIALS), *options]
    environment = os.environ | {"TWOMINDS_HOME": str(root)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def seeds(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "search").rglob("seed-*.json")}


def wait_for_seeds(root: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while len(seeds(root)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.05)


def test_killed_in_mid_run_and_started_again(workspace: Path) -> None:
    first = start(workspace, "--concurrency", "1")
    # Seven seeds: one candidate is done, the next is under way.
    wait_for_seeds(workspace, 7, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    # Its workers notice by themselves; a seed that one of them still ends now counts as finished.
    time.sleep(5)
    before = seeds(workspace)
    second = start(workspace)
    output, _ = second.communicate(timeout=400)
    assert second.returncode == 0, output
    after = seeds(workspace)
    assert len(after) == 5 * TRIALS
    assert {path: after[path] for path in before} == before, "a finished seed was trained again"
    (run,) = (workspace / "search").iterdir()
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    assert len(trials) == TRIALS
    assert all(f"mf1_seed_{seed}" in trial for trial in trials for seed in (42, 2025, 7777, 12345, 31415))
    assert artifacts.read_card(str(workspace / "ensemble")).seeds == (42, 2025, 7777, 12345, 31415)
