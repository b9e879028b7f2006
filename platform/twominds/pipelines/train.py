"""Training the unimodal encoders with Ray Train: features in, one artifact per modality out.

One worker trains the modalities one after another (starting a worker group costs more than training a small encoder)
and checkpoints as it goes, so a killed worker goes on where it was. To train modalities side by side on a
cluster, submit one job for each with `--modalities`.
"""

import tempfile
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from rich.table import Table
from torch import Tensor
from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, from_json, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.catalog import ENCODERS, EncodersConfig
from twominds.errors import ArtifactError, MissingInputError
from twominds.media.reader import MediaConfig
from twominds.pipelines import tables
from twominds.pipelines.about import read_about
from twominds.pipelines.cluster import cluster, cpus_of_a_node
from twominds.pipelines.progress import printed_lines
from twominds.pipelines.storage import storage_of
from twominds.pipelines.summary import Summary
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.records import Features, Modality, Split
from twominds.training.examples import FeatureExamples
from twominds.training.fit import EpochReport, fit
from twominds.training.fit_state import FitState
from twominds.training.losses import cross_entropy
from twominds.workspace import Workspace, job_command, require

PROGRESS_INTERVAL_S = 5.0
"""Least time between two lines about an encoder's training."""

MODALITY = "modality.txt"
"""In a checkpoint, beside the state: which encoder it is of."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train the unimodal encoders on the features of a corpus."""

    features: str = field(default_factory=lambda: Workspace.default().features)
    """Folder of `jobs/preprocess.py`."""
    output: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder for the encoders, one artifact per modality; local or s3://."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    recipe: str = ""
    """The system to train; by default the one that the features were made for."""
    modalities: tuple[Modality, ...] = tuple(Modality)
    """Which encoders."""
    retrain: bool = False
    """Train again what is already there."""
    use_gpu: bool = False
    """Train on a GPU."""
    cpus: float = 0
    """CPUs of the worker; 0: all of the largest node."""
    checkpoint_interval_s: float = 60.0
    """Least time between checkpoints, which are taken after an epoch: what a worker that dies can lose."""
    max_failures: int = 2
    """How often a worker that dies is started again from its last checkpoint."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""


def train_encoders(config: TrainConfig) -> Summary:
    """Runs the job; returns what it did.

    Raises:
        MissingInputError: there are no features, or no labelled clips of a split among them.
        BackboneError: the bundle lacks a backbone.
    """
    require(config.features, what="features", made_by="python jobs/preprocess.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    recipe = find_recipe(config.recipe or read_about(config.features).recipe)
    store = BackboneStore(uri=config.models)
    for modality in config.modalities:
        for role in recipe.features.backbones(modality):
            store.entry(role)
        for split in (Split.TRAIN, Split.VALIDATION):
            _check_examples(config.features, modality, split)
    wanted = [m for m in config.modalities if config.retrain or not _trained(config, recipe, m)]
    if wanted:
        with cluster(config.address):
            _run(config, recipe, wanted, config.cpus or cpus_of_a_node())
    return _summary(config, recipe, trained=wanted)


def _run(config: TrainConfig, recipe: Recipe, modalities: list[Modality], cpus: float) -> None:
    # Its own: a job for another modality may train beside this one, and the same name would resume an older run.
    run = f"encoders-{uuid.uuid4().hex[:8]}"
    filesystem, path = storage_of(f"{config.output}/.train")
    with printed_lines() as lines:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={
                "config": config,
                "recipe": recipe.name,
                "modalities": modalities,
                "lines": lines,
                "cpus": cpus,
            },
            scaling_config=ScalingConfig(
                num_workers=1,
                use_gpu=config.use_gpu,
                resources_per_worker={"CPU": cpus, **({"GPU": 1} if config.use_gpu else {})},
            ),
            run_config=RunConfig(
                name=run,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=config.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            trainer.fit()
        finally:
            checkpoints = UPath(f"{config.output}/.train/{run}")
            if checkpoints.exists():
                checkpoints.fs.rm(checkpoints.path, recursive=True)


def _train_worker(arguments: dict[str, Any]) -> None:
    """Runs on the worker: trains each modality, reporting a resumable checkpoint now and then."""
    config, recipe = cast("TrainConfig", arguments["config"]), find_recipe(cast("str", arguments["recipe"]))
    device = "cuda" if config.use_gpu else "cpu"
    if device == "cpu":
        torch.set_num_threads(max(1, int(cast("float", arguments["cpus"]))))
    current, state = _last_checkpoint()
    for modality in cast("list[Modality]", arguments["modalities"]):
        if not config.retrain and _trained(config, recipe, modality):
            continue  # finished before this worker was started again
        resume = state if modality == current else None
        _train_one(config, recipe, modality, device, resume, cast("Queue", arguments["lines"]))


def _train_one(
    config: TrainConfig, recipe: Recipe, modality: Modality, device: str, resume: FitState | None, lines: Queue
) -> None:
    store, about = BackboneStore(uri=config.models), read_about(config.features)
    torch.manual_seed(recipe.encoder_seed)
    (train, train_labels), (validation, validation_labels) = (
        read_examples(config.features, modality, split) for split in (Split.TRAIN, Split.VALIDATION)
    )
    settings = recipe.encoders.of(modality)
    encoder = ENCODERS[type(settings)].pretrained(
        settings,
        num_classes=recipe.task.num_classes,
        store=store,
        example=next(item for item in train if item.presence.present),
    )

    fit_config, saved, shown = recipe.encoder_fits.of(modality), time.monotonic(), float("-inf")

    def on_epoch(report: EpochReport) -> None:
        nonlocal saved, shown
        if time.monotonic() - shown > PROGRESS_INTERVAL_S:
            lines.put(
                f"{modality}: epoch {report.epoch}/{fit_config.epochs}, validation MF1 {report.validation_mf1:.3f}"
            )
            shown = time.monotonic()
        # Not after every epoch: Ray Train takes a report every two seconds, and the loop waits until it does.
        if time.monotonic() - saved > config.checkpoint_interval_s:
            with tempfile.TemporaryDirectory() as folder:
                report.fit_state().save(folder)
                (Path(folder) / MODALITY).write_text(modality)
                metrics = {"modality": str(modality), **report.numbers()}
                ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
            saved = time.monotonic()

    result = fit(
        encoder,
        FeatureExamples(encoder, train, train_labels, device),
        FeatureExamples(encoder, validation, validation_labels, device),
        fit_config,
        seed=recipe.encoder_seed,
        loss=cross_entropy,
        num_classes=recipe.task.num_classes,
        device=device,
        on_epoch=on_epoch,
        resume=resume,
    )
    epochs, mf1 = f"best epoch {result.best_epoch} of {len(result.history)}", result.validation_mf1
    lines.put(f"{modality}: {epochs}, validation MF1 {mf1:.3f}")
    card = Card(
        kind="encoder",
        task=recipe.task,
        recipe=recipe.name,
        config={"features": to_json(recipe.features), "media": to_json(about.media)},
        data={
            "features": _data_fingerprint(config, modality),
            "fit": _fit_fingerprint(recipe, modality),
            "clips": {str(Split.TRAIN): len(train), str(Split.VALIDATION): len(validation)},
        },
        metrics={"validation_mf1": result.validation_mf1, "best_epoch": result.best_epoch},
        seeds=(recipe.encoder_seed,),
        backbones=tuple(used_backbone(store, role) for role in _roles(recipe, modality, about.media, store)),
    )
    save_encoder(f"{config.output}/{modality}", encoder, recipe.encoders, card)


def _roles(recipe: Recipe, modality: Modality, media: MediaConfig, store: BackboneStore) -> list[str]:
    """All that pre-trained models had a part in the modality's features."""
    read = replace(recipe, media=media)  # the detector may have been chosen by the user
    return [role for role in read.frozen_roles([modality]) if role != WHISPER or store.has(role)]


def read_examples(features_uri: str, modality: Modality, split: Split) -> tuple[list[Features], Tensor]:
    """The features and labels of one modality and split, absent ones included."""
    columns = ["label", *(f.name for f in tables.features_fields(modality))]
    rows = [r for r in tables.read_rows(features_uri, columns, [split]) if r["label"] is not None]
    return [tables.features_from_row(row, modality) for row in rows], torch.tensor([row["label"] for row in rows])


def _check_examples(features_uri: str, modality: Modality, split: Split) -> None:
    """Before any worker is started.

    Raises:
        MissingInputError: no labelled clip of the split has the modality.
    """
    rows = tables.read_rows(features_uri, ["label", f"{modality}_present"], [split])
    if not any(row["label"] is not None and row[f"{modality}_present"] for row in rows):
        raise MissingInputError(
            f"No labelled clip of the split {split} in {features_uri} has the modality {modality}: nothing to train on."
        )


def _last_checkpoint() -> tuple[Modality | None, FitState | None]:
    """What a worker that was started again goes on from."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None, None
    with checkpoint.as_directory() as folder:
        return Modality((Path(folder) / MODALITY).read_text()), FitState.load(folder)


def _trained(config: TrainConfig, recipe: Recipe, modality: Modality) -> Card | None:
    """The card of an encoder that is already there, trained on these features by this recipe."""
    try:
        card = artifacts.read_card(f"{config.output}/{modality}")
    except ArtifactError:
        return None
    same = card.data.get("features") == _data_fingerprint(config, modality)
    same = same and card.data.get("fit") == _fit_fingerprint(recipe, modality)
    same = same and from_json(EncodersConfig, card.config["encoders"]).of(modality) == recipe.encoders.of(modality)
    return card if same else None


def _data_fingerprint(config: TrainConfig, modality: Modality) -> str:
    return fingerprint(read_about(config.features).parts[modality], tables.labels_fingerprint(config.features))


def _fit_fingerprint(recipe: Recipe, modality: Modality) -> str:
    return fingerprint(to_json(recipe.encoder_fits.of(modality)), recipe.encoder_seed)


def _summary(config: TrainConfig, recipe: Recipe, trained: list[Modality]) -> Summary:
    table = Table("encoder", "validation MF1", "best epoch", "train/val clips", "weights", "")
    for modality in config.modalities:
        card = artifacts.read_card(f"{config.output}/{modality}")
        table.add_row(
            modality,
            f"{card.metrics['validation_mf1']:.3f}",
            str(card.metrics["best_epoch"]),
            "/".join(str(count) for count in card.data["clips"].values()),
            card.weights,
            "trained now" if modality in trained else "there from before",
        )
    summary = Summary(title=f"Unimodal encoders of {recipe.name}", where=config.output, tables=[table])
    summary.next_step = job_command("embed", features=config.features, encoders=config.output)
    return summary
