"""Checks on drawn corpora that the simple model of each kind of task finds what was planted, and nothing else.

Per frame A/H with its segments, eight expressions per frame, six intensities per clip; and corpora without signal.
"""

import filecmp
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tyro
from rich.console import Console
from rich.table import Table

from twominds.pipelines.cluster import cluster
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.job import in_sentences
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.recipes.catalog import find_recipe
from twominds.records import Clip, Score, Split
from twominds.results import tables
from twominds.results.labelled import clip_rows, is_labelled
from twominds.scoring.ensemble import Ensemble
from twominds.search.config import SearchConfig
from twominds.storage import write_whole
from twominds.synthetic.corpus.config import Layout, PlantedTask, PresetName, SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.tasks import Classes, Task
from twominds.training.bootstrap import PeopleBootstrap
from twominds.training.examples import Targets
from twominds.training.objective import Objective
from twominds.workspace import Workspace, require

LAYOUTS: dict[PlantedTask, tuple[Layout, float]] = {
    "ah-frame": ("bah", 8.0),
    "expression": ("expr", 6.0),
    "mimicry": ("emi", 4.0),
}
"""How the corpus of each task lies on disk, and how many seconds a clip has."""
SHARES = SplitShares(validation=0.15, test=0.35)
"""More than BAH's for validation: of two hundred clips that would be too few to select anything on."""
DEALS = 20
"""How often answers are dealt out anew, to know what chance has."""


@dataclass(frozen=True, kw_only=True)
class PlantedTasksConfig:
    """Draw corpora, run every job on each, and print what the test split says."""

    tasks: tuple[PlantedTask, ...] = ("ah-frame", "expression", "mimicry")
    """What is planted; the recipe is `simple/TASK`."""
    presets: tuple[PresetName, ...] = ("default", "none")
    """Where the labels come from; see jobs/make_corpus.py."""
    seeds: tuple[int, ...] = (0, 1)
    """One corpus for each."""
    clips: int = 200
    """Videos in each."""
    fps: float = 10.0
    """Frames a second of the drawn videos."""
    width: int = 240
    """Pixels of the drawn videos, three quarters as high."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root}/planted-tasks")
    """Folder for the corpora and results. What is there is not made again."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The tiny debug bundle."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one corpus comes to on its test split."""

    task: str
    preset: str
    seed: int
    metric: str
    score: float
    low: float
    """Lower bound of the 95 % interval over people."""
    high: float
    """Its upper bound."""
    baseline: float
    """What the constant answer of training has."""
    chance: float
    """What the same answers have when they are dealt out to other points: where nothing is to be found, macro F1 has
    more than that of a constant answer, whatever is said."""
    overlap: float | None
    """Intersection over union of the decided and the planted segments, of all points together; of two classes."""


def main(config: PlantedTasksConfig) -> None:
    """Runs all; prints one line per corpus, and writes `results.json`."""
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    table = Table(
        "task", "preset", "seed", "metric", "score", "95 % CI", "constant", "chance", "IoU", title="Test split"
    )
    found: list[dict[str, Any]] = []
    with cluster():
        for task in config.tasks:
            for preset in config.presets:
                for seed in config.seeds:
                    one = _one(config, task, preset, seed)
                    found.append(vars(one))
                    overlap = "" if one.overlap is None else f"{one.overlap:.3f}"
                    interval = f"{one.low:.3f} to {one.high:.3f}"
                    cells = [f"{one.score:.3f}", interval, f"{one.baseline:.3f}", f"{one.chance:.3f}", overlap]
                    table.add_row(task, preset, str(seed), one.metric, *cells)
                    Console(width=120).print(table)
                    write_whole(Path(config.output, "results.json"), json.dumps(found, indent=2).encode())


def _one(config: PlantedTasksConfig, task: PlantedTask, preset: PresetName, seed: int) -> Measured:
    recipe = f"simple/{task}"
    shared = Workspace(root=f"{config.output}/{task}-{seed}")
    workspace = Workspace(root=f"{shared.root}/{preset}")
    _draw(config, task, preset, seed, Path(workspace.corpus))
    _lay_out(Path(workspace.corpus), Path(shared.corpus))
    preprocess(
        PreprocessConfig(
            corpus=shared.corpus, output=shared.features, models=config.models, recipe=recipe, detector="yolo"
        )
    )
    train_encoders(TrainConfig(features=shared.features, output=workspace.encoders, models=config.models))
    embed_features(EmbedConfig(features=shared.features, encoders=workspace.encoders, output=workspace.embeddings))
    search_fusion(
        SearchConfig(
            embeddings=workspace.embeddings,
            encoders=workspace.encoders,
            output=workspace.search,
            ensemble=workspace.ensemble,
            recipe=recipe,
            trials=1,
        )
    )
    return measured(workspace, find_recipe(recipe).task, preset, seed)


def _draw(config: PlantedTasksConfig, task: PlantedTask, preset: PresetName, seed: int, root: Path) -> None:
    layout, clip_s = LAYOUTS[task]
    drawn = SyntheticCorpusConfig(
        preset=preset,
        layout=layout,
        task=task,
        clips=config.clips,
        clip_s=clip_s,
        shares=SHARES,
        clips_per_person=1.0,  # else two hundred clips are 25 people to learn from
        seed=seed,
        width=config.width,
        height=config.width * 3 // 4,
        fps=config.fps,
        clean=True,
    )
    make_corpus(drawn, root)


def _lay_out(drawn: Path, corpus: Path) -> None:
    """Makes `corpus` what was drawn, but for what is the same in it already.

    The presets of expressions and of intensities differ in labels alone: features are made once.
    """
    for file in sorted(path for path in drawn.rglob("*") if path.is_file()):
        there = corpus / file.relative_to(drawn)
        if not there.is_file() or not filecmp.cmp(file, there, shallow=False):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, there)


def measured(workspace: Workspace, task: Task, preset: str, seed: int) -> Measured:
    """What the ensemble says of every labelled point of the test split; one without an answer gets the constant."""
    ensemble, objective = Ensemble.load(workspace.ensemble), Objective(task=task)
    clips, answers = _answers(workspace, ensemble, Split.TEST)
    train, _ = _answers(workspace, None, Split.TRAIN)
    constant = objective.constant(_targets(train, None, task).values)
    targets = _targets(clips, answers, task)
    truth = targets.values.numpy()
    said = np.stack([_said(answers[o], p, constant, task) for o, p in zip(targets.owners, targets.points, strict=True)])
    people = [clips[int(owner)].participant_id or clips[int(owner)].clip_id for owner in targets.owners]
    deal = np.random.default_rng(0)
    draws = PeopleBootstrap(truth, people, objective.metric)
    estimate = draws.estimate(said[None])
    low, high = estimate.interval or (float("nan"), float("nan"))
    both = ((said == 1) & (truth == 1)).sum() / max(1, ((said == 1) | (truth == 1)).sum()) if task.is_binary else None
    return Measured(
        task=task.name,
        preset=preset,
        seed=seed,
        metric=task.metric,
        score=estimate.value,
        low=low,
        high=high,
        baseline=objective.metric(truth, np.broadcast_to(constant, truth.shape)),
        chance=float(np.mean([objective.metric(truth, deal.permutation(said)) for _ in range(DEALS)])),
        overlap=None if both is None else float(both),
    )


def _answers(workspace: Workspace, ensemble: Ensemble | None, split: Split) -> tuple[list[Clip], list[Score | None]]:
    """The labelled clips of a split, and what the ensemble says of each, if it does."""
    views = [] if ensemble is None else list(ensemble.config.views)
    columns = [*tables.WITHOUT_WORDS, *tables.LABEL_COLUMNS, *(f.name for f in tables.embedding_fields(*views))]
    rows = [row for row in clip_rows(workspace.embeddings, list(dict.fromkeys(columns)), [split]) if is_labelled(row)]
    clips = [tables.clip_from_row(row) for row in rows]
    if ensemble is None:
        return clips, [None] * len(clips)
    scores = ensemble.score([{view: tables.embedding_from_row(row, view) for view in views} for row in rows])
    return clips, [score if isinstance(score, Score) else None for score in scores]


def _targets(clips: Sequence[Clip], answers: Sequence[Score | None] | None, task: Task) -> Targets:
    timelines = [None if answer is None else answer.timeline for answer in answers or [None] * len(clips)]
    times = [None if timeline is None else timeline.points_s for timeline in timelines]
    return Targets.of([clip.labels for clip in clips if clip.labels is not None], times, task.output)


def _said(answer: Score | None, point: Any, constant: npt.NDArray[Any], task: Task) -> npt.NDArray[Any]:
    if answer is None:
        return constant
    if answer.timeline is None:
        return np.asarray(answer.label) if isinstance(task.output, Classes) else np.asarray(answer.probabilities)
    labels = answer.timeline.labels
    return np.asarray(answer.timeline.outputs[int(point)] if labels is None else labels[int(point)])


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(PlantedTasksConfig))
