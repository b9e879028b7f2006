"""Checks on drawn corpora that what was planted is found, and that nothing is found where nothing was planted."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from twominds.pipelines.cluster import cluster
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.job import in_sentences
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.records import Modality
from twominds.search.config import SearchConfig
from twominds.storage import write_whole
from twominds.synthetic.corpus.config import PresetName, SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.workspace import Workspace, require

FusedOver = Literal["emb", "pooled"]
FUSIONS: dict[FusedOver, str] = {"emb": "leya/demo", "pooled": "leya/demo-pooled"}
"""Input kind of the fusion, and the recipe that searches it."""


SHARES = SplitShares(validation=0.15, test=0.35)
"""More than BAH's for validation: of a few hundred clips that would be too few to select anything on."""


@dataclass(frozen=True, kw_only=True)
class PlantedTruthConfig:
    """Draw corpora, run every job on each, and print what the test split says."""

    presets: tuple[PresetName, ...] = ("default", "none", "conflict")
    """Where the labels come from; see jobs/make_corpus.py."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One corpus for each."""
    clips: int = 600
    """Videos in each."""
    fusions: tuple[FusedOver, ...] = tuple(FUSIONS)
    """What the fusion takes: `emb`, the trained encoders' embeddings, and `pooled`, the frozen backbones' features."""
    trials: int = 6
    """Candidates of each search."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root}/planted-truth")
    """Folder for the corpora and results. What is there is not made again."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The tiny debug bundle."""


def main(config: PlantedTruthConfig) -> None:
    """Runs all; prints one line per corpus and fusion, and writes `results.json`."""
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    names = ["majority", "question", *map(str, Modality), "single", "ensemble"]
    table = Table("preset", "seed", "fusion over", *names, title="Test MF1")
    found: list[dict[str, object]] = []
    with cluster():
        for preset in config.presets:
            for seed in config.seeds:
                for kind, mf1 in _one(config, preset, seed).items():
                    found.append(
                        {"preset": preset, "seed": seed, "inputs": kind, "test_mf1": dict(zip(names, mf1, strict=True))}
                    )
                    table.add_row(preset, str(seed), kind, *(f"{value:.3f}" for value in mf1))
                Console(width=120).print(table)  # narrower, figures would be cut
                write_whole(Path(config.output, "results.json"), json.dumps(found, indent=2).encode())


def _one(config: PlantedTruthConfig, preset: PresetName, seed: int) -> dict[str, list[float]]:
    """Test MF1 of every model of the results table, per input kind of the fusion."""
    workspace = Workspace(root=f"{config.output}/{preset}-{seed}")
    drawn = SyntheticCorpusConfig(preset=preset, clips=config.clips, shares=SHARES, seed=seed)
    make_corpus(drawn, Path(workspace.corpus))
    preprocess(
        PreprocessConfig(
            corpus=workspace.corpus,
            output=workspace.features,
            models=config.models,
            recipe=FUSIONS["emb"],
            pooled="pooled" in config.fusions,
        )
    )
    train_encoders(TrainConfig(features=workspace.features, output=workspace.encoders, models=config.models))
    embed_features(EmbedConfig(features=workspace.features, encoders=workspace.encoders, output=workspace.embeddings))
    results: dict[str, list[float]] = {}
    for kind in config.fusions:
        recipe = FUSIONS[kind]
        search = SearchConfig(
            embeddings=workspace.embeddings,
            encoders=workspace.encoders,
            output=workspace.search,
            ensemble=f"{workspace.ensemble}-{kind}",
            recipe=recipe,
            trials=config.trials,
        )
        search_fusion(search)
        report = EvaluateConfig(
            ensemble=search.ensemble, embeddings=workspace.embeddings, output=f"{workspace.report}-{kind}"
        )
        evaluate(report)
        rows = json.loads(Path(report.output, "results.json").read_text())["rows"]
        results[kind] = [row["splits"]["test"]["score"]["value"] for row in rows]
    return results


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(PlantedTruthConfig))
