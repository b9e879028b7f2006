"""Training the unimodal encoders with Ray Train: features in, one artifact per view out.

One worker (or several that take the same steps together) trains the views one after another, as starting a worker
group costs more than training a small encoder, and checkpoints as it goes, so a killed worker goes on where it was. To
train several side by side on a cluster, submit one job for each with `--views`.
"""

import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from rich.table import Table
from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.catalog import ENCODERS, encoders_from_json
from twominds.encoders.classical import ClassicalTextEncoder
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError, ConfigError, MissingInputError, TrainingError
from twominds.features.catalog import backbones_of
from twominds.media.reader import MediaConfig
from twominds.pipelines.cluster import cluster, cpus_of_a_worker, outside_main_thread
from twominds.pipelines.progress import printed_lines
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.records import Classes, Features, Intensities, Modality, Split, View
from twominds.reports.coverage import add_coverage
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts, is_labelled, labelled_rows, labels_fingerprint
from twominds.storage import require_writable, storage_of
from twominds.training.classical import fit_classical
from twominds.training.deepspeed import DeepSpeedConfig, load_deepspeed
from twominds.training.examples import FeatureExamples, Targets
from twominds.training.fit import EpochReport, FitResult, fit
from twominds.training.fit_state import FitState
from twominds.training.losses import loss_of_logits
from twominds.training.selection import SelectionProtocol, SelectionView, visible_splits
from twominds.training.workers import Workers
from twominds.workspace import Workspace, job_command, require

PROGRESS_INTERVAL_S = 5.0
"""Least time between two lines about an encoder's training."""

MODALITY = "modality.txt"
"""In a checkpoint, beside the state: which encoder it is of."""

EncoderClips = SelectionView[tuple[list[Features], Targets]]
"""Features of one view, absent ones included, and what is known; the test split only under the paper's protocol."""


class FitOptions(TypedDict, total=False):
    """How a fit goes on, and who takes part: what `training.fit.fit` takes, and learning all at once has no use for."""

    on_epoch: Callable[[EpochReport], None]
    resume: FitState | None
    workers: Workers
    deepspeed: DeepSpeedConfig | None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train the unimodal encoders on the features of a corpus."""

    features: str = field(default_factory=lambda: Workspace.default().features)
    """Folder of `jobs/preprocess.py`."""
    output: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder for the encoders, one artifact per view; local or s3://."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    recipe: str = ""
    """The system to train; by default the one that the features were made for."""
    views: tuple[View, ...] = ()
    """Which encoders; by default those of the recipe."""
    retrain: bool = False
    """Train again what is already there."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose the epoch. `validation+test` is the paper's way: whatever is made so says it."""
    workers: int = 1
    """Processes that share each batch; their steps are those of one. Only what dropout drops differs."""
    use_gpu: bool = False
    """Train on GPUs, one per worker."""
    cpus: float = 0
    """CPUs of each worker; 0: its part of the largest node."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed splits over the workers: 1 the optimizer's state, 2 also gradients, 3 also weights; 0 nothing. For
    VideoMAE on small GPUs. Such a training starts anew where a worker dies."""
    offload_optimizer: bool = False
    """With DeepSpeed: keep the optimizer's state in the CPU's memory."""
    checkpoint_interval_s: float = 60.0
    """Least time between checkpoints, which are taken after an epoch: what a worker that dies can lose."""
    max_failures: int = 2
    """How often a worker that dies is started again from its last checkpoint."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")
        if self.offload_optimizer and not self.zero_stage:
            raise ConfigError("offload_optimizer needs a zero_stage of 1, 2 or 3.")
        self.deepspeed()

    def deepspeed(self) -> DeepSpeedConfig | None:
        """How DeepSpeed is to split the training, if it is."""
        stage = self.zero_stage
        return DeepSpeedConfig(zero_stage=stage, offload_optimizer=self.offload_optimizer) if stage else None


def train_encoders(config: TrainConfig) -> Summary:
    """Runs the job; returns what it did.

    Raises:
        MissingInputError: there are no features, or no labelled clips of a split among them.
        BackboneError: the bundle lacks a backbone.
        ConfigError: DeepSpeed is asked for, but not installed.
        TrainingError: an encoder came to nothing; the others are trained.
    """
    if config.zero_stage:
        load_deepspeed()
    require(config.features, what="features", made_by="python jobs/preprocess.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    require_writable(config.output)
    recipe = find_recipe(config.recipe or read_about(config.features).recipe)
    store = BackboneStore(uri=config.models)
    config = replace(config, views=config.views or recipe.views)
    for view in config.views:
        check_inputs(config.features, recipe, view, store, config.protocol)
    wanted = [m for m in config.views if config.retrain or not _trained(config, recipe, m)]
    if wanted:
        with cluster(config.address):
            untrained = _run(config, recipe, wanted, config.cpus or cpus_of_a_worker(config.workers))
        if untrained:
            raise TrainingError(untrained)
    return _summary(config, recipe, trained=wanted)


def _run(config: TrainConfig, recipe: Recipe, views: list[View], cpus: float) -> str:
    """Trains the encoders; returns why some came to nothing, or ""."""
    # Its own: a job for another view may train beside this one, and the same name would resume an older run.
    run = f"encoders-{uuid.uuid4().hex[:8]}"
    filesystem, path = storage_of(f"{config.output}/.train")
    arguments = {"config": config, "recipe": recipe.name, "views": views, "cpus": cpus}
    with printed_lines() as lines:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={**arguments, "lines": lines},
            scaling_config=ScalingConfig(
                num_workers=config.workers,
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
            return cast("str", outside_main_thread(trainer.fit).return_value)
        finally:
            checkpoints = UPath(f"{config.output}/.train/{run}")
            if checkpoints.exists():
                checkpoints.fs.rm(checkpoints.path, recursive=True)


def _train_worker(arguments: dict[str, Any]) -> str:
    """Runs on every worker: trains each view, reporting a resumable checkpoint now and then.

    Returns why some came to nothing, or "": an error would have Ray Train start the workers again, to the same end.
    """
    config, recipe = cast("TrainConfig", arguments["config"]), find_recipe(cast("str", arguments["recipe"]))
    workers = Workers.joined(get_device() if config.use_gpu else "cpu")
    if not config.use_gpu:
        torch.set_num_threads(max(1, int(cast("float", arguments["cpus"]))))
    current, state = _last_checkpoint()
    untrained: list[str] = []
    for view in cast("list[View]", arguments["views"]):
        if workers.agreed(not config.retrain and _trained(config, recipe, view) is not None):
            continue  # finished before the workers were started again
        resume = state if view == current else None
        try:
            _train_one(config, recipe, view, workers, resume, cast("Queue", arguments["lines"]))
        except (TrainingError, ArtifactError) as error:  # of a loss all workers see; or the first cannot save it
            untrained.append(f"The {view} encoder could not be trained. {error}")
    return " ".join(untrained)


def _train_one(
    config: TrainConfig, recipe: Recipe, view: View, workers: Workers, resume: FitState | None, lines: Queue
) -> None:
    clips, store = (
        read_examples(config.features, view, config.protocol, recipe.task.output),
        BackboneStore(uri=config.models),
    )
    epochs, saved, shown = recipe.encoder_fits[view].epochs, time.monotonic(), float("-inf")
    deepspeed = config.deepspeed()

    def on_epoch(report: EpochReport) -> None:
        nonlocal saved, shown
        if workers.first and time.monotonic() - shown > PROGRESS_INTERVAL_S:
            minutes, seconds = divmod(round(report.seconds * (epochs - report.epoch)), 60)
            left = f"at most about {minutes}:{seconds:02} left"
            score = f"validation {recipe.task.score_name} {report.validation_score:.3f}"
            lines.put(f"{view}: epoch {report.epoch}/{epochs}, {score}, {left}")
            shown = time.monotonic()
        # Not after every epoch: Ray Train takes a report every two seconds, and the loop waits until it does. It also
        # waits until all workers have reported.
        if deepspeed is None and workers.agreed(time.monotonic() - saved > config.checkpoint_interval_s):
            metrics = {"view": str(view), **report.numbers()}
            if workers.first:
                with tempfile.TemporaryDirectory() as folder:
                    report.fit_state().save(folder)
                    (Path(folder) / MODALITY).write_text(view)
                    ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
            else:
                ray.train.report(metrics)
            saved = time.monotonic()

    of_fit: FitOptions = {"on_epoch": on_epoch, "resume": resume, "workers": workers, "deepspeed": deepspeed}
    encoder, result = trained_encoder(recipe, view, clips, store, device=workers.device, **of_fit)
    if not workers.first:
        return
    best = f"best epoch {result.best_epoch} of {len(result.history)}, " if result.history else ""
    lines.put(f"{view}: {best}validation {recipe.task.score_name} {result.validation_score:.3f}")
    card = encoder_card(recipe, view, clips, store, result, config.features)
    save_encoder(f"{config.output}/{view}", encoder, recipe.encoders, card)


def trained_encoder(
    recipe: Recipe,
    view: View,
    clips: EncoderClips,
    store: BackboneStore,
    *,
    device: str | torch.device,
    **of_fit: Unpack[FitOptions],
) -> tuple[Encoder, FitResult]:
    """One encoder as the recipe says, from its published backbone to its best epoch; `of_fit` is what `fit` takes."""
    torch.manual_seed(recipe.encoder_seed)
    settings, seed = recipe.encoders[view], recipe.encoder_seed
    encoder = ENCODERS[type(settings)].pretrained(
        settings,
        num_outputs=recipe.task.num_outputs,
        store=store,
        example=next(item for item in clips.train[0] if item.presence.present),
    )
    encoder.view, encoder.output = view, recipe.task.output
    if recipe.task.per_frame and not encoder.per_point:
        raise ConfigError(
            f"The {view} encoder of {recipe.name} answers once a clip; {recipe.task.name} asks per frame."
        )
    if isinstance(encoder, ClassicalTextEncoder):
        return encoder, fit_classical(encoder, clips, recipe.objective, seed=seed, device=device)
    examples = clips.map(lambda split: FeatureExamples(encoder, *split, device))
    result = fit(
        encoder,
        examples.train,
        examples.validation,
        recipe.encoder_fits[view],
        seed=seed,
        loss=loss_of_logits,
        objective=recipe.objective,
        device=device,
        scored_on=examples.scored_on,
        **of_fit,
    )
    return encoder, result


def encoder_card(
    recipe: Recipe, view: View, clips: EncoderClips, store: BackboneStore, result: FitResult, features: str
) -> Card:
    """What is known of an encoder that was trained on the folder `features`."""
    media = read_about(features).media
    return Card(
        kind="encoder",
        task=recipe.task,
        recipe=recipe.name,
        config={"features": to_json(recipe.features), "media": to_json(media)},
        data={
            "features": data_fingerprint(features, view, clips.selected_on),
            "fit": _fit_fingerprint(recipe, view),
            **clip_counts(recipe.task, clips.train[1].values, clips.validation[1].values),
        },
        metrics={"validation_score": result.validation_score, "best_epoch": result.best_epoch},
        selected_on=clips.selected_on,
        seeds=(recipe.encoder_seed,),
        backbones=tuple(used_backbone(store, role) for role in _roles(recipe, view, media, store)),
    )


def _roles(recipe: Recipe, view: View, media: MediaConfig, store: BackboneStore) -> list[str]:
    """All that pre-trained models had a part in the view's features."""
    read = replace(recipe, media=media)  # the detector may have been chosen by the user
    return [role for role in read.frozen_roles([view]) if role != WHISPER or store.has(role)]


def read_examples(
    features_uri: str, view: View, protocol: SelectionProtocol, output: Classes | Intensities
) -> EncoderClips:
    """The features and labels of one view, absent ones included, of the splits that the protocol may see."""

    def examples(rows: list[tables.Row]) -> tuple[list[Features], Targets]:
        features = [tables.features_from_row(row, view) for row in rows]
        labels = [said for row in rows if (said := tables.labels_from_row(row)) is not None]
        return features, Targets.of(labels, [item.points_s for item in features], output)

    columns = ["participant_id", *(field.name for field in tables.features_fields(view))]
    return labelled_rows(features_uri, columns, protocol).map(examples)


def check_inputs(
    features_uri: str, recipe: Recipe, view: View, store: BackboneStore, protocol: SelectionProtocol
) -> None:
    """Before any worker is started.

    Raises:
        MissingInputError: the features are of other views, or no labelled clip of a split that the protocol
            needs has this one.
        BackboneError: the bundle lacks the view's backbone, or it is not what was fetched.
    """
    if view not in read_about(features_uri).parts:
        raise MissingInputError(
            f"{features_uri} holds no {view} features. Make them in another folder, or name the --views that there are."
        )
    for role in backbones_of(recipe.features[view]):
        store.check(role)
    for split in visible_splits(protocol):
        _check_examples(features_uri, view, split)


def _check_examples(features_uri: str, view: View, split: Split) -> None:
    purpose = "train" if split == Split.TRAIN else "select"
    rows = tables.read_rows(features_uri, [*tables.LABEL_COLUMNS, f"{view}_present"], [split])
    if not any(is_labelled(row) and row[f"{view}_present"] for row in rows):
        raise MissingInputError(
            f"No labelled clip of the split {split} in {features_uri} has the modality {view}: nothing to {purpose} on."
        )


def _last_checkpoint() -> tuple[Modality | None, FitState | None]:
    """What a worker that was started again goes on from."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None, None
    with checkpoint.as_directory() as folder:
        return Modality((Path(folder) / MODALITY).read_text()), FitState.load(folder)


def _trained(config: TrainConfig, recipe: Recipe, view: View) -> Card | None:
    """The card of an encoder that is already there, trained on these features by this recipe."""
    try:
        card = artifacts.read_card(f"{config.output}/{view}")
    except ArtifactError:
        return None
    same = card.data.get("features") == data_fingerprint(config.features, view, config.protocol)
    same = same and card.data.get("fit") == _fit_fingerprint(recipe, view)
    same = same and encoders_from_json(card.config["encoders"])[view] == recipe.encoders[view]
    return card if same and card.selected_on == config.protocol else None


def data_fingerprint(features_uri: str, view: View, protocol: SelectionProtocol) -> str:
    """Digest of the features of one view and of the labels that the protocol sees."""
    labels = labels_fingerprint(features_uri, protocol, words=view == Modality.TEXT)
    return fingerprint(read_about(features_uri).parts[view], labels)


def _fit_fingerprint(recipe: Recipe, view: View) -> str:
    return fingerprint(to_json(recipe.encoder_fits[view]), recipe.encoder_seed)


def _summary(config: TrainConfig, recipe: Recipe, trained: list[View]) -> Summary:
    counted = "points" if recipe.task.per_frame else "clips"
    table = Table(
        "encoder", f"validation {recipe.task.score_name}", "best epoch", f"train/val {counted}", "weights", ""
    )
    for view in config.views:
        card = artifacts.read_card(f"{config.output}/{view}")
        table.add_row(
            view,
            f"{card.metrics['validation_score']:.3f}",
            str(card.metrics["best_epoch"] or "-"),
            "/".join(str(count) for count in card.data[counted].values()),
            card.weights,
            "trained now" if view in trained else "there from before",
        )
    summary = Summary(title=f"Unimodal encoders of {recipe.name}", where=config.output, tables=[table])
    if config.protocol != "validation":
        summary.add("selected_on", config.protocol)
    add_coverage(summary, config.features, config.views)
    summary.next_step = job_command("embed", features=config.features, encoders=config.output)
    return summary
