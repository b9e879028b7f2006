"""Check that the ablation shows what was planted, on drawn corpora whose only evidence is known.

Four corpora have their whole signal in one modality: every row that looks at it must find it, and every row that does
not, as well as the full system with that modality hidden, must be at chance. In a fifth only the disagreement between
face and words tells (preset `conflict`): no modality alone may solve it, and of the pairs that which holds both sides.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from twominds.pipelines.cluster import cluster
from twominds.pipelines.job import in_sentences
from twominds.pipelines.study.parts import StudyConfig
from twominds.pipelines.study.run import run_study
from twominds.records import Modality, View
from twominds.storage import write_whole
from twominds.synthetic.corpus.config import CueStrengths, SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.workspace import Workspace, require

SHARES = SplitShares(validation=0.15, test=0.35)
"""Of a few hundred clips, BAH's share for validation would be too few."""
NO_CUES = CueStrengths(**dict.fromkeys(asdict(CueStrengths()), 0.0))
SINGLE = ",".join(f"leya/demo/{row}" for row in ("01", "02", "03", "07", "14", "21", "22", "23", "24"))
"""Each encoder alone, all four with prototypes, and every triple."""
CONFLICT = "leya/demo-pooled/all"


@dataclass(frozen=True, kw_only=True)
class PlantedAblationConfig:
    """Draw the corpora, run the rows on each, and print what the test split says."""

    only: tuple[View, ...] = tuple(Modality)
    """Modalities that carry the only signal of a corpus of their own."""
    conflict: bool = True
    """Also the corpus of which only the disagreement tells."""
    strength: float = 2.5
    """How much the one cue tells, in d'."""
    clips: int = 320
    """Videos in each corpus with a single signal."""
    conflict_clips: int = 600
    """Videos in the corpus of the conflict."""
    seed: int = 0
    """Seed of the drawn corpora."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root}/planted-ablation")
    """Folder for the corpora and reports. What is there is not made again."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The tiny debug bundle."""


def main(config: PlantedAblationConfig) -> None:
    """Runs all; prints a table per corpus and writes `results.json`."""
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    corpora = {
        f"only-{view}": SyntheticCorpusConfig(
            clips=config.clips, shares=SHARES, seed=config.seed, strengths=_only(view, config.strength)
        )
        for view in config.only
    }
    if config.conflict:
        corpora["conflict"] = SyntheticCorpusConfig(
            preset="conflict", clips=config.conflict_clips, shares=SHARES, seed=config.seed
        )
    found: dict[str, Any] = {}
    with cluster():
        for name, drawn in corpora.items():
            folder = f"{config.output}/{name}"
            make_corpus(drawn, Path(folder, "corpus"))
            places = StudyConfig(corpus=f"{folder}/corpus", models=config.models, folder=f"{folder}/study")
            run_study(CONFLICT if name == "conflict" else SINGLE, places, f"{folder}/report")
            found[name] = json.loads(Path(folder, "report", "results.json").read_text())
            Console(width=120).print(_table(name, found[name]))
    write_whole(Path(config.output, "results.json"), json.dumps(found, indent=2).encode())


def _only(view: View, strength: float) -> CueStrengths:
    return CueStrengths(**{**asdict(NO_CUES), view: strength})


def _table(name: str, report: dict[str, Any]) -> Table:
    """One line per row of the study: test MF1, and with each modality hidden."""
    table = Table("row", "looks at", "test MF1", *(f"without {view}" for view in Modality), title=name)
    hidden = {(drop["recipe"], drop["view"]): drop["score"]["test"] for drop in report["modality_drop"]}
    for row in report["rows"]:
        without = (hidden.get((row["recipe"], view)) for view in Modality)
        cells = ["" if value is None else f"{value:.3f}" for value in without]
        mf1 = row["splits"]["test"]["score"]["value"]
        table.add_row(row["recipe"], " ".join(row["modalities"]), f"{mf1:.3f}", *cells)
    return table


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(PlantedAblationConfig, config=(tyro.conf.EnumChoicesFromValues,)))
