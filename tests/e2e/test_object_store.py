"""The jobs on an object store: corpus, weights, results and the search's state are below `s3://`, nothing on a disk."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from moto.server import ThreadedMotoServer
from upath import UPath

from twominds import artifacts
from twominds.corpus.manifest import read_corpus
from twominds.pipelines import tables
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import SearchConfig, search_fusion
from twominds.pipelines.sink import read_quarantine
from twominds.scoring.ensemble import Ensemble
from twominds.workspace import Workspace

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]


@pytest.fixture(scope="module")
def bucket(s3_server: Callable[[], AbstractContextManager[ThreadedMotoServer]]) -> Iterator[Workspace]:
    """A workspace on an S3 server of this test, and a Ray whose workers know the way to it."""
    with s3_server():
        if ray.is_initialized():
            ray.shutdown()
        ray.init(
            address="local", num_cpus=2, object_store_memory=300_000_000, include_dashboard=False, log_to_driver=False
        )
        UPath("s3://runs").mkdir()
        yield Workspace(root="s3://runs/home")
        ray.shutdown()


def upload(folder: str, uri: str) -> None:
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            target = UPath(uri) / path.relative_to(folder).as_posix()
            target.write_bytes(path.read_bytes())


def test_preprocess_from_and_to_the_store(finished: "Finished", bucket: Workspace) -> None:
    clips = read_corpus(finished.workspace.corpus)
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


def test_search_and_evaluation_on_the_store(finished: "Finished", bucket: Workspace) -> None:
    upload(finished.workspace.embeddings, bucket.embeddings)
    upload(finished.workspace.encoders, bucket.encoders)
    config = SearchConfig(
        embeddings=bucket.embeddings,
        encoders=bucket.encoders,
        output=bucket.search,
        ensemble=bucket.ensemble,
        trials=1,
    )
    search_fusion(config)
    card = artifacts.read_card(bucket.ensemble)
    assert Ensemble.load(bucket.ensemble).card == card
    search_fusion(config)
    assert artifacts.read_card(bucket.ensemble).artifact_id == card.artifact_id
    evaluate(EvaluateConfig(ensemble=bucket.ensemble, embeddings=bucket.embeddings, output=bucket.report))
    assert UPath(f"{bucket.report}/results.json").exists()
