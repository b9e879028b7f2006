"""Check on drawn corpora that differences of modalities find a label that lies in their disagreement alone.

In the preset `conflict` faces and words are each happy or sad, and A/H is that they differ: no modality tells it. One
fusion with ConflictAwareAH's differences, and the same without them, over pooled features of the same encoders; in the
preset `none` neither may find anything.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from twominds.pipelines.cluster import cluster
from twominds.pipelines.job import in_sentences
from twominds.pipelines.study.parts import StudyConfig
from twominds.pipelines.study.run import run_study
from twominds.storage import write_whole
from twominds.synthetic.corpus.config import PresetName, SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.workspace import Workspace, require

ROWS = ("conflict-aware/demo/leya-pooled", "conflict-aware/demo/leya-pooled-no-conflict")
"""With the differences, and without."""
SHARES = SplitShares(validation=0.15, test=0.35)
"""How clips are split: more for validation than in BAH, whose share of a few hundred would be too few to choose on."""


@dataclass(frozen=True, kw_only=True)
class PlantedDisagreementConfig:
    """Draw the corpora, train both rows with five seeds on each, and print what the test split says."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Corpora that are drawn with the disagreement, one from each seed."""
    nothing: tuple[int, ...] = (0,)
    """Corpora that are drawn without signal, one from each seed."""
    clips: int = 600
    """Videos in each."""
    rows: tuple[str, ...] = ROWS
    """Recipes that are compared."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root}/planted-disagreement")
    """Folder for the corpora and reports. What is there is not made again."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The tiny debug bundle."""


def main(config: PlantedDisagreementConfig) -> None:
    """Runs all; prints a line per corpus and row, and writes `results.json`."""
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    corpora: list[tuple[PresetName, int]] = [
        *(("conflict", seed) for seed in config.seeds),
        *(("none", seed) for seed in config.nothing),
    ]
    found: dict[str, Any] = {}
    with cluster():
        for preset, seed in corpora:
            folder = f"{config.output}/{preset}-{seed}"
            drawn = SyntheticCorpusConfig(preset=preset, clips=config.clips, shares=SHARES, seed=seed)
            make_corpus(drawn, Path(folder, "corpus"))
            places = StudyConfig(corpus=f"{folder}/corpus", models=config.models, folder=f"{folder}/study")
            run_study(",".join(config.rows), places, f"{folder}/report")
            found[f"{preset}-{seed}"] = json.loads(Path(folder, "report", "results.json").read_text())
            Console(width=120).print(_table(found))
    write_whole(Path(config.output, "results.json"), json.dumps(found, indent=2).encode())


def _table(found: dict[str, Any]) -> Table:
    """Test macro F1 of each row on each corpus: of the five seeds' ensemble, with its interval over people."""
    table = Table("corpus", "row", "test MF1 [95 % CI]", title="Disagreement")
    for corpus, report in found.items():
        for row in report["rows"]:
            score = row["splits"]["test"]["score"]
            low, high = score["interval"] or (None, None)
            interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
            table.add_row(corpus, row["recipe"], f"{score['value']:.3f}{interval}")
    return table


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(PlantedDisagreementConfig))
