"""Check on drawn corpora that what HSEmotion's tables say can be found: what smoothing, filters and blends do.

Smoothing must help where truth is smooth, blends must beat the best of their parts, and the filter of expressions must
help where the descriptor's own scores are right: for that a descriptor gets scores that were fitted on another drawn
corpus. Without signal no row may beat its baseline.
"""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import tyro
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] open PathLike

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.backbones.state_dicts import write_state_dict
from twominds.corpus.labels import labels_at
from twominds.pipelines.cluster import cluster
from twominds.pipelines.job import in_sentences
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.study.parts import StudyConfig
from twominds.pipelines.study.run import run_study
from twominds.recipes.hsemotion_expr import FACE, ORDER
from twominds.results import tables
from twominds.storage import write_whole
from twominds.synthetic.corpus.config import Layout, PlantedTask, PresetName, SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.tasks import TASKS, Task
from twominds.training.examples import half_step_s
from twominds.training.metrics import metric_of
from twominds.workspace import Workspace, require

TableName = Literal["expr", "emi", "ah-frame"]

SHARES = SplitShares(validation=0.2, test=0.3)
PRETRAINED_ROLE, SCORES = "face.emotieffnet_b0", 8
DEALS = 20
"""How often answers are dealt out anew, to know what chance has."""


@dataclass(frozen=True, kw_only=True)
class PlantedTable:
    """What is drawn for a table, which of its rows are made, and which must be better than which."""

    task: PlantedTask
    layout: Layout
    clip_s: float
    rows: tuple[str, ...]
    better: tuple[tuple[str, tuple[str, ...]], ...]
    """A row, and those that it must beat on test."""


PLANTED: dict[TableName, PlantedTable] = {
    "expr": PlantedTable(
        task="expression",
        layout="expr",
        clip_s=6.0,
        rows=("b0", "b0-smooth"),
        better=(("b0-smooth", ("b0",)),),
    ),
    "emi": PlantedTable(
        task="mimicry",
        layout="emi",
        clip_s=4.0,
        rows=("mfn-features-stat", "hubert-mean", "roberta-mean", "roberta-mfn-hubert"),
        better=(("roberta-mfn-hubert", ("mfn-features-stat", "hubert-mean", "roberta-mean")),),
    ),
    "ah-frame": PlantedTable(
        task="ah-frame",
        layout="bah",
        clip_s=8.0,
        rows=("mfn-scores", "mfn-smooth", "hubert", "roberta", "all-blend"),
        better=(("mfn-smooth", ("mfn-scores",)), ("all-blend", ("mfn-scores", "hubert", "roberta"))),
    ),
}
FILTERED = replace(
    PLANTED["expr"],
    rows=("b0-pretrained", "b0-smooth", "b0-smooth-filter"),
    better=(("b0-smooth-filter", ("b0-smooth",)),),
)
"""Expressions on a descriptor whose scores are right."""


@dataclass(frozen=True, kw_only=True)
class PlantedHSEmotionConfig:
    """Draw the corpora, make rows of the tables on each, and print what the test split says."""

    tables: tuple[TableName, ...] = ("expr", "emi", "ah-frame")
    """The tables to look at, whose recipes are `hsemotion/demo/TABLE/ROW`."""
    presets: tuple[PresetName, ...] = ("default", "none")
    """Where the labels come from; see jobs/make_corpus.py."""
    right_scores: bool = True
    """Also expressions with a descriptor whose own scores are right."""
    clips: int = 120
    """Videos in each corpus."""
    seed: int = 0
    """From which the corpora are drawn."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root}/planted-hsemotion")
    """Folder for the corpora and reports. What is there is not made again."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The tiny debug bundle."""


def main(config: PlantedHSEmotionConfig) -> None:
    """Runs all; prints a table per corpus and writes `results.json`."""
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    found: dict[str, Any] = {}

    def keep(name: str, report: dict[str, Any]) -> None:
        found[name] = report
        Console(width=120).print(_printed(name, report))
        write_whole(Path(config.output, "results.json"), json.dumps(found, indent=2).encode())

    with cluster():
        for table in config.tables:
            for preset in config.presets:
                keep(f"{table}-{preset}", _report(config, table, preset, PLANTED[table], config.models))
        if config.right_scores:
            models = _with_right_scores(config)
            keep("expr-right-scores", _report(config, "expr", "default", FILTERED, models, "right-scores"))


def _draw(config: PlantedHSEmotionConfig, table: TableName, preset: PresetName, seed: int) -> str:
    planted, root = PLANTED[table], Path(config.output, f"{table}-{preset}-{seed}")
    drawn = SyntheticCorpusConfig(
        preset=preset,
        layout=planted.layout,
        task=planted.task,
        clips=config.clips,
        clip_s=planted.clip_s,
        shares=SHARES,
        clips_per_person=1.0,
        seed=seed,
        width=240,
        height=180,
        fps=10.0,
        clean=True,
    )
    make_corpus(drawn, root)
    return str(root)


def _report(
    config: PlantedHSEmotionConfig,
    table: TableName,
    preset: PresetName,
    planted: PlantedTable,
    models: str,
    suffix: str = "report",
) -> dict[str, Any]:
    """What the rows have on test, and of the headline what chance has."""
    corpus = _draw(config, table, preset, config.seed)
    output = Path(config.output, f"{table}-{preset}-{suffix}")
    names = [f"hsemotion/demo/{table}/{row}" for row in planted.rows]
    run_study(",".join(names), StudyConfig(corpus=corpus, models=models, folder=f"{config.output}/study"), str(output))
    report = cast("dict[str, Any]", json.loads((output / "results.json").read_text()))
    scores: dict[str, Any] = {
        row["recipe"].rpartition("/")[2]: row["splits"]["test"]["score"] for row in report["rows"]
    }
    return {
        "metric": report["metric"],
        "test": scores,
        "chance": _chance(output / "scores.csv", TASKS[planted.task]),
        "better": {
            f"{row} over {other}": scores[row]["value"] - scores[other]["value"]
            for row, others in planted.better
            for other in others
        },
    }


def _chance(file: Path, task: Task) -> float:
    """What the headline's answers have when they are dealt out to other test points."""
    deal = np.random.default_rng(0)
    rows = [row for row in csv.DictReader(file.open()) if row["split"] == "test"]
    labels = [name for name in rows[0] if name.startswith("label")]
    truth, said = (
        np.array([[float(row[name]) for name in columns] for row in rows])
        for columns in (labels, [name.replace("label", "predicted", 1) for name in labels])
    )
    if len(labels) == 1:
        truth, said = truth[:, 0].astype(np.int64), said[:, 0].astype(np.int64)
    metric = metric_of(task)
    return float(np.mean([metric(truth, deal.permutation(said)) for _ in range(DEALS)]))


def _with_right_scores(config: PlantedHSEmotionConfig) -> str:
    """A bundle whose EmotiEffNet-B0 scores expressions as a drawn corpus of another seed has them."""
    models = Path(config.output, "models-right-scores")
    if models.exists():
        return str(models)
    corpus = _draw(config, "expr", "default", config.seed + 1000)
    features = f"{config.output}/features-of-others"
    recipe = "hsemotion/demo/expr/b0"
    preprocess(PreprocessConfig(corpus=corpus, output=features, models=config.models, recipe=recipe))
    rows = tables.read_rows(features, [*tables.LABEL_COLUMNS, *(f.name for f in tables.features_fields(FACE))], None)
    embeddings, classes = _labelled_rows(rows)
    weight, bias = fitted_scores(embeddings, classes)
    shutil.copytree(config.models, models)
    store, folder = BackboneStore(uri=config.models), Path(config.output, "right-scores")
    shutil.copytree(store.folder(PRETRAINED_ROLE), folder)
    state = load_file(folder / "model.safetensors")
    state |= {"head.weight": torch.from_numpy(weight), "head.bias": torch.from_numpy(bias)}
    write_state_dict(state, folder / "model.safetensors")
    entry = BundleEntry(weights="debug", hub_id=None, revision="scores fitted on drawn faces", licence="Apache-2.0")
    add_to_bundle(str(models), PRETRAINED_ROLE, folder, entry)
    return str(models)


def _labelled_rows(rows: Sequence[tables.Row]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Embeddings [N, D] and classes [N] of the frames of which something is known."""
    embeddings: list[npt.NDArray[np.float64]] = []
    classes: list[npt.NDArray[np.int64]] = []
    for row in rows:
        features, labels = tables.features_from_row(row, FACE), tables.labels_from_row(row)
        if features.values is None or features.times_s is None or labels is None or features.points_s is None:
            continue
        at = labels_at(labels, features.points_s, half_step_s(labels, features.points_s))
        nearest = np.abs(features.times_s[:, None] - features.points_s[None]).argmin(axis=1)
        known = at.known[nearest]
        embeddings.append(features.values[known, :-SCORES].astype(np.float64))
        classes.append(at.classes[nearest][known])
    return np.concatenate(embeddings), np.concatenate(classes)


def fitted_scores(
    embeddings: npt.NDArray[np.float64], classes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weight [8, D] and bias [8] of scores in the descriptor's own order, by a logistic regression of the task's."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    model = cast(Any, LogisticRegression(C=0.1, max_iter=2000)).fit((embeddings - mean) / scale, classes)
    weight, bias = np.zeros((SCORES, embeddings.shape[1])), np.full(SCORES, -20.0)  # a class that is nowhere: never
    for label, of_class, offset in zip(model.classes_, model.coef_, model.intercept_, strict=True):
        weight[ORDER[label]] = of_class / scale
        bias[ORDER[label]] = offset - (of_class / scale) @ mean
    return weight.astype(np.float32), bias.astype(np.float32)


def _printed(name: str, report: dict[str, Any]) -> Table:
    table = Table("row", f"test {report['metric']}", "95 % CI", title=f"{name} (chance {report['chance']:.3f})")
    for row, score in report["test"].items():
        low, high = score["interval"] or (float("nan"), float("nan"))
        table.add_row(row, f"{score['value']:.3f}", f"{low:.3f} to {high:.3f}")
    for told, difference in report["better"].items():
        table.add_row(told, f"{difference:+.3f}", "")
    return table


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(PlantedHSEmotionConfig))
