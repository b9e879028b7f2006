"""The jobs on an object store: corpus, weights, results and the search's state are below `s3://`, nothing on a disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from moto.server import ThreadedMotoServer
from upath import UPath

from twominds import artifacts
from twominds.corpus.manifest import read_corpus
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import search_fusion
from twominds.results import tables
from twominds.results.quarantine import read_quarantine
from twominds.scoring.ensemble import Ensemble
from twominds.workspace import Workspace

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]


@pytest.fixture(scope="module")
def bucket(
    s3_server: Callable[[], AbstractContextManager[ThreadedMotoServer]], ray_session: None, ray_address: str
) -> Iterator[Workspace]:
    """A workspace on an S3 server of this test, to which the suite's Ray is shown the way meanwhile."""
    ray.shutdown()
    with s3_server():
        way = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        ray.init(address=ray_address, log_to_driver=False, runtime_env={"env_vars": way})
        UPath("s3://runs").mkdir()
        yield Workspace(root="s3://runs/home")
        ray.shutdown()
    ray.init(address=ray_address, log_to_driver=False)


def upload(folder: str, uri: str) -> None:
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            target = UPath(uri) / path.relative_to(folder).as_posix()
            target.write_bytes(path.read_bytes())


def test_preprocess_from_and_to_the_store(finished: "Finished", bucket: Workspace) -> None:
    clips = read_corpus(finished.workspace.corpus).clips
    bad = next(clip for clip in clips if clip.clip_id in finished.quarantined())
    chosen = [bad, *(clip for clip in clips if clip.clip_id not in finished.quarantined())][:4]
    lines = ["clip_id,video,split,label,transcript"]
    for i, clip in enumerate(chosen):
        UPath(f"{bucket.corpus}/clips/{i}.mp4").write_bytes(Path(clip.video_uri).read_bytes())
        lines.append(f'clip-{i},clips/{i}.mp4,train,{clip.label},"part of me wants to"')
    UPath(f"{bucket.corpus}/table.csv").write_text("\n".join(lines) + "\n")
    upload(finished.workspace.models, bucket.models)
    config = PreprocessConfig(
        corpus=f"{bucket.corpus}/table.csv", output=bucket.features, models=bucket.models, recipe="leya/demo"
    )
    preprocess(config)
    rows = tables.read_rows(bucket.features)
    assert [row["clip_id"] for row in rows] == ["clip-1", "clip-2", "clip-3"]
    assert [failure.clip_id for failure in read_quarantine(bucket.features)] == ["clip-0"]
    assert dict(preprocess(config).facts)["features made now"] == "0"


def test_a_search_that_is_moved_to_the_store_is_over_there_too(finished: "Finished", bucket: Workspace) -> None:
    """How one is run there: `test_search_lost_node.py`."""
    for place in ("embeddings", "encoders", "search"):
        upload(getattr(finished.workspace, place), getattr(bucket, place))
    config = replace(
        finished.search,
        embeddings=bucket.embeddings,
        encoders=bucket.encoders,
        output=bucket.search,
        ensemble=bucket.ensemble,
    )
    seeds = {path.path for path in UPath(bucket.search).rglob("seed-*.json")}
    assert seeds, "nothing was moved"
    summary = search_fusion(config)
    assert {path.path for path in UPath(bucket.search).rglob("seed-*.json")} == seeds, "a seed was trained again"
    assert dict(summary.facts)["candidates with all seeds"] == f"{finished.search.trials} of {finished.search.trials}"
    card = artifacts.read_card(bucket.ensemble)
    assert card.metrics == artifacts.read_card(finished.workspace.ensemble).metrics
    assert Ensemble.load(bucket.ensemble).card == card
    search_fusion(config)
    assert artifacts.read_card(bucket.ensemble).artifact_id == card.artifact_id
    evaluate(EvaluateConfig(ensemble=bucket.ensemble, embeddings=bucket.embeddings, output=bucket.report))
    assert UPath(f"{bucket.report}/results.json").exists()
