"""A recipe's joint stage: features of several views in, their encoders and the ensemble out, from one training.

What is saved is what views by themselves and a search would have saved, at the same places: to embed, evaluate, score
and serve is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, cast

import torch
from ray.util.queue import Queue

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError, ConfigError
from twominds.fusion.catalog import build_fusion
from twominds.pipelines.train_config import JOINTLY, TrainConfig
from twominds.pipelines.train_view import (
    EncoderClips,
    FitOptions,
    alone_uri,
    data_fingerprint,
    encoder_card,
    new_encoder,
    read_examples,
    reporter,
)
from twominds.recipes.recipe import Recipe
from twominds.recipes.stages import TrainJointly, learning_views
from twominds.records import Features, View
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.scoring.members import seed_name
from twominds.scoring.post_processing import SaidClip
from twominds.search.assembly import Assembly, assemble, chosen_on, said_of
from twominds.training.examples import FeatureExamples
from twominds.training.fit import FitResult, fit
from twominds.training.fit_state import FitState
from twominds.training.joint import JointExamples, JointLoss, JointModel
from twominds.training.objective import Objective
from twominds.training.progress import split_scores, training_constant
from twominds.training.selection import SelectionProtocol, SelectionView
from twominds.training.workers import Workers

ClipsByView = Mapping[View, EncoderClips]
"""The same clips for each view; what is known of them is the same, too."""


def check_jointly(config: TrainConfig, recipe: Recipe) -> None:
    """Before anything is started.

    Raises:
        ConfigError: the recipe has a joint stage, which the settings do not go with.
    """
    if recipe.joint is None:
        return
    if config.views:
        raise ConfigError(f"{recipe.name} trains its encoders in one model: leave out --views.")
    if config.zero_stage:
        raise ConfigError(f"{recipe.name} trains its encoders in one model, without DeepSpeed: leave out --zero-stage.")


def train_jointly(
    config: TrainConfig,
    recipe: Recipe,
    stage: TrainJointly,
    workers: Workers,
    resume: FitState | None,
    lines: Queue,
    weights_from: str = "",
) -> None:
    """Trains the joint model on every worker; the first saves what it falls apart into, the ensemble last.

    Args:
        config: The settings of the job.
        recipe: The system, with one seed.
        stage: The recipe's joint stage.
        workers: The processes that train together.
        resume: State of an interrupted training.
        lines: What is put here is printed.
        weights_from: Folder of encoders and their `ensemble`, which may be of the same training but for what does not
            bear on weights: then theirs are taken, and what follows the training is all that is done.
    """
    source = _same_training(config, recipe, weights_from) if weights_from else None
    trained = workers.agreed(source is not None)
    if trained and not workers.first:
        return
    output, store = recipe.task.output, BackboneStore(uri=config.models)
    # Pictures and sound of a split may be more than memory holds.
    clips = {view: read_examples(config.features, view, config.protocol, output, on_disk=True) for view in recipe.views}
    if source is not None and trained:
        model, result = _trained_before(recipe, stage, weights_from, source)
        model.to(workers.device)
        best = f"weights of {source.recipe}, which is trained alike, best epoch {result.best_epoch}"
    else:
        on_epoch = reporter(config, recipe, JOINTLY, stage.fit.epochs, workers, lines)
        of_fit: FitOptions = {"on_epoch": on_epoch, "resume": resume, "workers": workers}
        encoders = _encoders(config, recipe, stage, clips, store)
        for encoder in encoders.values():
            encoder.keep(int(config.keep_gib * 2**30 / len(encoders)))
        model, result = fit_jointly(recipe, stage, encoders, clips, device=workers.device, **of_fit)
        for encoder in encoders.values():
            encoder.keep(0)
        if not workers.first:
            return
        best = f"best epoch {result.best_epoch} of {len(result.history)}"
    lines.put(f"{JOINTLY}: {best}, validation {recipe.task.score_name} {result.validation_score:.3f}")
    made_of = _fit_fingerprint(config, recipe)
    for view in learning_views(stage, recipe.views):
        encoder = model.encoder(view)
        card = encoder_card(recipe, view, clips[view], store, result, config.features, fit_digest=made_of)
        metrics: dict[str, Any] = {"best_epoch": result.best_epoch}
        if encoder.answers:
            metrics["validation_score"] = _own_score(encoder, clips[view], recipe.objective, workers.device)
        card = replace(card, data={**card.data, "trained": JOINTLY}, metrics=metrics)
        save_encoder(f"{config.output}/{view}", encoder, recipe.encoders, card)
    (seed,) = recipe.fusion.seeds
    made = assemble(recipe, {seed: model.fusion.state_dict()}, model.fusion.dims, read_about(config.features).media)
    if recipe.grids:
        made = chosen_on(made, recipe, _said(made, recipe, model, clips, workers.device))
    known = clips[recipe.views[0]].map(lambda split: split[1].values)
    card = Card(
        kind="ensemble",
        task=recipe.task,
        recipe=recipe.name,
        config={},
        data={
            "fit": made_of,
            "training": _training_fingerprint(config, recipe),
            "trained": JOINTLY,
            "features": _data_fingerprint(config.features, recipe, config.protocol),
            **clip_counts(recipe.task, known.train, known.validation),
        },
        metrics={
            "validation_score_mean": result.validation_score,
            "validation_score_std": 0.0,
            "validation_score": {str(seed): result.validation_score},
            "validation_loss": result.validation_loss,
            "selection_score_mean": result.selection_score,
            "selection_loss": result.selection_loss,
            "best_epoch": result.best_epoch,
        },
        selected_on=config.protocol,
    )
    save_ensemble(
        config.ensemble,
        made.states,
        made.config,
        dims=made.dims,
        encoders={view: f"{config.output}/{view}" for view in recipe.views},
        card=card,
    )


def fit_jointly(
    recipe: Recipe,
    stage: TrainJointly,
    encoders: Mapping[View, Encoder],
    clips: ClipsByView,
    *,
    device: str | torch.device = "cpu",
    **of_fit: Unpack[FitOptions],
) -> tuple[JointModel, FitResult]:
    """The joint model as the recipe says, with the weights of its best epoch.

    Args:
        recipe: The system, with one seed.
        stage: The recipe's joint stage.
        encoders: The encoder of each of the fusion's views, as it begins; those that do not learn stay as they are.
        clips: Features and labels of each view.
        device: Where to train.
        of_fit: What `fit` takes.
    """
    (seed,) = recipe.fusion.seeds
    model = _joint_model(recipe, stage, encoders)
    examples = _together(clips, {view: encoders[view] for view in recipe.views}, device)
    result = fit(
        model,
        examples.train,
        examples.validation,
        stage.fit,
        seed=seed,
        loss=JointLoss(fusion=stage.loss, fusion_weight=stage.fusion_weight, heads=stage.heads),
        # Of the epochs the best one is that with the best threshold.
        objective=replace(recipe.objective, thresholds=recipe.grids.thresholds),
        device=device,
        scored_on=examples.scored_on,
        **of_fit,
    )
    return model, result


def _joint_model(recipe: Recipe, stage: TrainJointly, encoders: Mapping[View, Encoder]) -> JointModel:
    """Encoders and a new fusion as one model."""
    (seed,) = recipe.fusion.seeds
    ordered = {view: encoders[view] for view in recipe.views}
    dims = {view: encoder.embedding_dim for view, encoder in ordered.items()}
    fusion = build_fusion(recipe.fusion.model, dims=dims, num_outputs=recipe.task.num_outputs, seed=seed)
    learning = learning_views(stage, recipe.views)
    for view in learning:
        ordered[view].answers = view in stage.heads
    return JointModel(ordered, fusion, [view for view in ordered if view not in learning], stage.blend)


def _trained_before(recipe: Recipe, stage: TrainJointly, uri: str, card: Card) -> tuple[JointModel, FitResult]:
    """The joint model of another recipe's training, as this recipe looks at clips."""
    (seed,) = recipe.fusion.seeds
    encoders = {view: load_encoder(f"{uri}/{view}", recipe.encoders[view])[0] for view in recipe.views}
    model = _joint_model(recipe, stage, encoders)
    model.fusion.load_state_dict(Ensemble.load(f"{uri}/ensemble").models[seed_name(seed)].state_dict())
    metrics = card.metrics
    result = FitResult(
        best_epoch=metrics["best_epoch"],
        validation_score=metrics["validation_score_mean"],
        validation_loss=metrics["validation_loss"],
        selection_score=metrics["selection_score_mean"],
        selection_loss=metrics["selection_loss"],
        history=(),
    )
    return model.eval(), result


def _together(
    clips: ClipsByView, encoders: Mapping[View, Encoder], device: str | torch.device
) -> SelectionView[JointExamples]:
    """The examples of each split, of all views together."""
    of_views = [clips[view] for view in encoders]

    def joined(splits: list[Any], *, anywhere: bool = False) -> JointExamples:
        features = {view: split[0] for view, split in zip(encoders, splits, strict=True)}
        return JointExamples(encoders, features, splits[0][1], device, anywhere=anywhere)

    validation = joined([view.validation for view in of_views])
    others = [joined(list(splits)) for splits in zip(*(view.scored_on[1:] for view in of_views), strict=True)]
    return SelectionView(
        train=joined([view.train for view in of_views], anywhere=True),
        validation=validation,
        scored_on=(validation, *others),
        selected_on=of_views[0].selected_on,
    )


def _encoders(
    config: TrainConfig, recipe: Recipe, stage: TrainJointly, clips: ClipsByView, store: BackboneStore
) -> dict[View, Encoder]:
    """What the joint model begins with."""
    views = () if stage.start == "trained" else learning_views(stage, recipe.views)
    new = new_encoders(recipe, {view: clips[view].train[0] for view in views}, store)
    return {
        view: new[view] if view in new else load_encoder(alone_uri(config, recipe, view))[0] for view in recipe.views
    }


def new_encoders(
    recipe: Recipe, features: Mapping[View, Sequence[Features]], store: BackboneStore
) -> dict[View, Encoder]:
    """Encoders of one model before its training; see `new_encoder`.

    Each has a seed of its own: with one all would begin as the same map, and be anything but independent.
    """
    seeds = {view: recipe.encoder_seed + recipe.views.index(view) for view in features}
    return {
        view: new_encoder(replace(recipe, encoder_seed=seeds[view]), view, of_view, store)
        for view, of_view in features.items()
    }


@torch.inference_mode()
def _own_score(encoder: Encoder, clips: EncoderClips, objective: Objective, device: str | torch.device) -> float:
    """How good the encoder's own head is on validation."""
    examples, encoder = clips.map(lambda split: FeatureExamples(encoder, *split, device)), encoder.eval()
    validation = examples.validation
    batches = cast("tuple[torch.Tensor, ...]", torch.arange(len(validation)).split(64))
    logits = torch.cat([encoder(validation.batch(batch)).logits.float() for batch in batches])
    constant = training_constant(examples.train, objective)
    return split_scores(logits, validation.labels, validation.left_out, constant, objective)[1]


def _said(
    made: Assembly, recipe: Recipe, model: JointModel, clips: ClipsByView, device: str | torch.device
) -> list[SaidClip]:
    """What the parts of the joint model say of the validation clips, as they will where they are served."""
    of_views = {
        view: embed(model.encoder(view), clips[view].validation[0], device=str(device)) for view in recipe.views
    }
    embeddings = [dict(zip(of_views, of_clip, strict=True)) for of_clip in zip(*of_views.values(), strict=True)]
    return said_of(made, recipe, embeddings, clips[recipe.views[0]].validation[1])


def trained_jointly(config: TrainConfig, recipe: Recipe) -> Card | None:
    """The card of an ensemble that is already there, trained on these features by this recipe, with its encoders."""
    try:
        card = _of_same_data(config, recipe, config.output, config.ensemble)
        return card if card and card.data.get("fit") == _fit_fingerprint(config, recipe) else None
    except ArtifactError:
        return None


def _same_training(config: TrainConfig, recipe: Recipe, uri: str) -> Card | None:
    """The card of the ensemble at `uri`, if all that bears on its weights is what it would be here."""
    try:
        card = _of_same_data(config, recipe, uri, f"{uri}/ensemble")
        return card if card and card.data.get("training") == _training_fingerprint(config, recipe) else None
    except ArtifactError:
        return None


def _of_same_data(config: TrainConfig, recipe: Recipe, encoders: str, ensemble: str) -> Card | None:
    """The card of an ensemble, if it was trained on these features, and the encoders are its own.

    Raises:
        ArtifactError: there is no ensemble, or not all of its encoders.
    """
    card = artifacts.read_card(ensemble)
    ids = {str(view): artifacts.read_card(f"{encoders}/{view}").artifact_id for view in recipe.views}
    same = card.data.get("features") == _data_fingerprint(config.features, recipe, config.protocol)
    same = same and card.architecture.get("encoders") == ids and card.selected_on == config.protocol
    return card if same else None


def _data_fingerprint(features_uri: str, recipe: Recipe, protocol: SelectionProtocol) -> str:
    return fingerprint([data_fingerprint(features_uri, view, protocol) for view in recipe.views])


def _fit_fingerprint(config: TrainConfig, recipe: Recipe) -> str:
    """A digest of all that bears on what is saved but the data: weights, how clips are looked at, what is chosen."""
    after = recipe.encoders, recipe.decision, recipe.grids
    return fingerprint(_training_fingerprint(config, recipe), [to_json(settings) for settings in after])


def _training_fingerprint(config: TrainConfig, recipe: Recipe) -> str:
    """A digest of all that bears on the weights but the data: settings, seeds, encoders that it begins with."""
    begun = {view: artifacts.read_card(alone_uri(config, recipe, view)).artifact_id for view in recipe.alone}
    return fingerprint(recipe.joint_training, begun)
