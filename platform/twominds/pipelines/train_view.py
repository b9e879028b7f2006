"""Training one view's encoder by itself: what it is trained on, how it is trained, and the card of what comes of it."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import ray.train
import torch
from ray.train import Checkpoint
from ray.util.queue import Queue

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.catalog import ENCODERS, encoders_from_json
from twominds.encoders.encoder import Encoder, LearnsAtOnce
from twominds.errors import ArtifactError, ConfigError, MissingInputError
from twominds.features.catalog import backbones_of
from twominds.media.reader import MediaConfig
from twominds.pipelines.train_config import TrainConfig
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.recipes.stages import learning_views
from twominds.records import Features, Modality, Split, View, modality_of
from twominds.results import tables
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts, is_labelled, labelled_rows, labels_fingerprint
from twominds.results.on_disk import values_on_disk
from twominds.tasks import Classes, Intensities
from twominds.training.classical import fit_classical, measure
from twominds.training.deepspeed import DeepSpeedConfig
from twominds.training.examples import FeatureExamples, Targets
from twominds.training.fit import EpochReport, FitResult, fit
from twominds.training.fit_state import FitState
from twominds.training.losses import loss_of_logits
from twominds.training.selection import SelectionProtocol, SelectionView, visible_splits
from twominds.training.workers import Workers

PROGRESS_INTERVAL_S = 5.0
"""Least time between two lines about a training."""

OF = "modality.txt"
"""In a checkpoint, beside the state: whose it is (`name_of`)."""

EncoderClips = SelectionView[tuple[list[Features], Targets]]
"""Features of one view, absent ones included, and what is known; the test split only under the paper's protocol."""


class FitOptions(TypedDict, total=False):
    """How a fit goes on, and who takes part: what `training.fit.fit` takes, and learning all at once has no use for."""

    on_epoch: Callable[[EpochReport], None]
    resume: FitState | None
    workers: Workers
    deepspeed: DeepSpeedConfig | None


def train_view(
    config: TrainConfig, recipe: Recipe, view: View, workers: Workers, resume: FitState | None, lines: Queue
) -> None:
    """Trains one encoder and saves it, on every worker; the first one writes."""
    clips = read_examples(config.features, view, config.protocol, recipe.task.output)
    store, deepspeed = BackboneStore(uri=config.models), config.deepspeed()
    on_epoch = reporter(config, recipe, view, recipe.encoder_fits[view].epochs, workers, lines)
    of_fit: FitOptions = {"on_epoch": on_epoch, "resume": resume, "workers": workers, "deepspeed": deepspeed}
    encoder, result = trained_encoder(recipe, view, clips, store, device=workers.device, **of_fit)
    if not workers.first:
        return
    best = f"best epoch {result.best_epoch} of {len(result.history)}, " if result.history else ""
    lines.put(f"{view}: {best}validation {recipe.task.score_name} {result.validation_score:.3f}")
    card = encoder_card(recipe, view, clips, store, result, config.features)
    save_encoder(alone_uri(config, recipe, view), encoder, recipe.encoders, card)


def alone_uri(config: TrainConfig, recipe: Recipe, view: View) -> str:
    """Where an encoder is that was trained by itself: aside, where a joint stage goes on with it."""
    goes_on = recipe.joint is not None and view in learning_views(recipe.joint, recipe.views)
    return f"{config.output}/alone/{view}" if goes_on else f"{config.output}/{view}"


def reporter(
    config: TrainConfig, recipe: Recipe, what: str, epochs: int, workers: Workers, lines: Queue
) -> Callable[[EpochReport], None]:
    """What `fit` calls after each epoch: it prints a line and reports a resumable checkpoint, each now and then.

    Args:
        config: Its `checkpoint_interval_s` says how often a checkpoint is taken.
        recipe: The system that is trained.
        what: What is trained, a view's encoder or the joint model.
        epochs: How many there will be at most.
        workers: The processes that train together.
        lines: What is put here is printed.
    """
    saved, shown = time.monotonic(), float("-inf")

    def on_epoch(report: EpochReport) -> None:
        nonlocal saved, shown
        if workers.first and time.monotonic() - shown > PROGRESS_INTERVAL_S:
            minutes, seconds = divmod(round(report.seconds * (epochs - report.epoch)), 60)
            left = f"at most about {minutes}:{seconds:02} left"
            score = f"validation {recipe.task.score_name} {report.validation_score:.3f}"
            lines.put(f"{what}: epoch {report.epoch}/{epochs}, {score}, {left}")
            shown = time.monotonic()
        # Not after every epoch: Ray Train takes a report every two seconds, and the loop waits until it does. It also
        # waits until all workers have reported.
        if not config.zero_stage and workers.agreed(time.monotonic() - saved > config.checkpoint_interval_s):
            metrics = {"view": what, **report.numbers()}
            if workers.first:
                with tempfile.TemporaryDirectory() as folder:
                    report.fit_state().save(folder)
                    (Path(folder) / OF).write_text(name_of(config, what))
                    ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))
            else:
                ray.train.report(metrics)
            saved = time.monotonic()

    return on_epoch


def name_of(config: TrainConfig, what: str) -> str:
    """What is trained, told from all else that the same workers train."""
    return f"{config.output}/{what}"


def last_checkpoint() -> tuple[str, FitState | None]:
    """What a worker that was started again goes on from: what was being trained ("": nothing), and its state."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return "", None
    with checkpoint.as_directory() as folder:
        return (Path(folder) / OF).read_text(), FitState.load(folder)


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
    encoder, seed = new_encoder(recipe, view, clips.train[0], store), recipe.encoder_seed
    if isinstance(encoder, LearnsAtOnce):
        return encoder, fit_classical(encoder, clips, recipe.objective, seed=seed, device=device)
    examples = clips.map(lambda split: FeatureExamples(encoder, *split, device))
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        return encoder, measure(encoder, examples, recipe.objective)
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


def new_encoder(recipe: Recipe, view: View, features: Sequence[Features], store: BackboneStore) -> Encoder:
    """An encoder before its training, on its published backbone if it has one.

    Args:
        recipe: Has the encoder's settings, and the seed of the weights that are not the backbone's.
        view: The view whose encoder it is.
        features: Features of clips, some of which have the view.
        store: The bundle of backbones.

    Raises:
        ConfigError: it answers once a clip, where the task asks at points, and was not told to (`whole_clip`).
    """
    torch.manual_seed(recipe.encoder_seed)
    settings = recipe.encoders[view]
    encoder = ENCODERS[type(settings)].pretrained(
        settings,
        num_outputs=recipe.task.num_outputs,
        store=store,
        example=next(item for item in features if item.presence.present),
    )
    encoder.view, encoder.output = view, recipe.task.output
    if recipe.task.per_frame and not (encoder.per_point or encoder.whole_clip):
        raise ConfigError(
            f"The {view} encoder of {recipe.name} answers once a clip; {recipe.task.name} asks per frame."
        )
    return encoder


def encoder_card(
    recipe: Recipe,
    view: View,
    clips: EncoderClips,
    store: BackboneStore,
    result: FitResult,
    features: str,
    *,
    fit_digest: str = "",
) -> Card:
    """What is known of an encoder that was trained on the folder `features`; by itself, unless a digest says how."""
    media = read_about(features).media
    return Card(
        kind="encoder",
        task=recipe.task,
        recipe=recipe.name,
        config={"features": to_json(recipe.features), "media": to_json(media)},
        data={
            "features": data_fingerprint(features, view, clips.selected_on),
            "fit": fit_digest or _fit_fingerprint(recipe, view),
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
    features_uri: str, view: View, protocol: SelectionProtocol, output: Classes | Intensities, *, on_disk: bool = False
) -> EncoderClips:
    """The features and labels of one view, absent ones included, of the splits that the protocol may see.

    Args:
        features_uri: Folder of `jobs/preprocess.py`.
        view: The view whose features are read.
        protocol: Says which splits.
        output: What the labels say: classes or intensities.
        on_disk: Leave what the features hold on this machine's disk (`results.on_disk`), rather than in memory.
    """
    values = values_on_disk(features_uri, view, visible_splits(protocol)) if on_disk else None

    def of_row(row: tables.Row) -> Features:
        item = tables.features_from_row(row, view)
        return item if values is None else replace(item, values=values.get(item.clip_id))

    def examples(rows: list[tables.Row]) -> tuple[list[Features], Targets]:
        features = [of_row(row) for row in rows]
        labels = [said for row in rows if (said := tables.labels_from_row(row)) is not None]
        return features, Targets.of(labels, [item.points_s for item in features], output)

    columns = ["participant_id", *(field.name for field in tables.features_fields(view))]
    if on_disk:
        columns.remove(f"{view}_values")
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


def trained_alone(config: TrainConfig, recipe: Recipe, view: View) -> Card | None:
    """The card of an encoder that is already there, trained on these features by this recipe."""
    try:
        card = artifacts.read_card(alone_uri(config, recipe, view))
    except ArtifactError:
        return None
    same = card.data.get("features") == data_fingerprint(config.features, view, config.protocol)
    same = same and card.data.get("fit") == _fit_fingerprint(recipe, view)
    same = same and encoders_from_json(card.config["encoders"])[view] == recipe.encoders[view]
    return card if same and card.selected_on == config.protocol else None


def data_fingerprint(features_uri: str, view: View, protocol: SelectionProtocol) -> str:
    """Digest of the features of one view and of the labels that the protocol sees."""
    labels = labels_fingerprint(features_uri, protocol, words=modality_of(view) is Modality.TEXT)
    return fingerprint(read_about(features_uri).parts[view], labels)


def _fit_fingerprint(recipe: Recipe, view: View) -> str:
    return fingerprint(to_json(recipe.encoder_fits[view]), recipe.encoder_seed, *recipe.objective.chosen)
