"""One small run of every job, made once, that the end-to-end tests look at."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from twominds.corpus.manifest import read_corpus
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.records import Clip
from twominds.reports.summary import Summary
from twominds.results.quarantine import read_quarantine
from twominds.search.config import SearchConfig
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.workspace import Workspace

CLIPS = 24
TRIALS = 2


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A workspace in which every job has run, the configs, and what each job said."""

    workspace: Workspace
    preprocess: PreprocessConfig
    train: TrainConfig
    embed: EmbedConfig
    search: SearchConfig
    evaluate: EvaluateConfig
    summaries: dict[str, Summary]

    def clips(self) -> tuple[Clip, ...]:
        return read_corpus(self.workspace.corpus).clips

    def quarantined(self) -> set[str]:
        return {failure.clip_id for failure in read_quarantine(self.workspace.features)}


@pytest.fixture(scope="session")
def finished(tiny_bundle: str, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Finished:
    workspace = Workspace(root=str(tmp_path_factory.mktemp("workspace")))
    shutil.copytree(tiny_bundle, workspace.models)
    make_corpus(SyntheticCorpusConfig(clips=CLIPS, clip_s=2.0, width=192, height=144), Path(workspace.corpus))
    jobs = Finished(
        workspace=workspace,
        preprocess=PreprocessConfig(
            corpus=workspace.corpus, output=workspace.features, models=workspace.models, recipe="leya/demo"
        ),
        train=TrainConfig(features=workspace.features, output=workspace.encoders, models=workspace.models),
        embed=EmbedConfig(features=workspace.features, encoders=workspace.encoders, output=workspace.embeddings),
        search=SearchConfig(
            embeddings=workspace.embeddings,
            encoders=workspace.encoders,
            output=workspace.search,
            ensemble=workspace.ensemble,
            trials=TRIALS,
            concurrency=1,  # a process takes longer to start than these candidates to train
        ),
        evaluate=EvaluateConfig(ensemble=workspace.ensemble, embeddings=workspace.embeddings, output=workspace.report),
        summaries={},
    )
    summaries = {
        "preprocess": preprocess(jobs.preprocess),
        "train": train_encoders(jobs.train),
        "embed": embed_features(jobs.embed),
        "search": search_fusion(jobs.search),
        "evaluate": evaluate(jobs.evaluate),
    }
    return replace(jobs, summaries=summaries)
