"""The application that `serve run serve_configs/ah.yaml` builds, from typed arguments that all have defaults.

Ingress ─▶ MediaDecoder ─▶ SceneEncoder | FaceEncoder | AudioEncoder | TextEncoder ─▶ Ensemble
"""

from dataclasses import asdict
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application, Deployment

from twominds import artifacts
from twominds.artifacts import Card
from twominds.backbones import BackboneStore
from twominds.features.catalog import features_from_json, streams
from twominds.media.reader import for_new_videos
from twominds.records import View
from twominds.scoring.members import EnsembleConfig
from twominds.scoring.scorer import check_ensemble, encoder_uri
from twominds.serving.answers import BackboneAnswer, ModelAnswer
from twominds.serving.deployments import EncoderReplica, EnsembleModel, MediaDecoder, ReplicaSettings
from twominds.serving.ingress import Ingress
from twominds.serving.problems import RETRY_AFTER_S
from twominds.tasks import Classes
from twominds.workspace import Workspace, require


class ServeArgs(BaseModel):
    """The `args:` of a Serve config file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ensemble: str = Field(default_factory=lambda: Workspace.default().ensemble)
    """The ensemble artifact: a folder or an object store prefix."""
    models: str = Field(default_factory=lambda: Workspace.default().models)
    """The bundle of backbones."""
    device: str = "cpu"
    """Where detector and encoders run: `cpu` or `cuda`. The deployments' `num_gpus` must fit."""
    detector: Literal["yolo", "yunet"] | None = None
    """Who finds faces; by default whoever did in training."""
    max_upload_mib: float = Field(default=200.0, gt=0)
    """A larger file gets 413."""
    max_requests: int = Field(default=16, ge=1)
    """Clips that one ingress replica takes at once; further ones get 503 and when to come back."""
    timeout_s: float = Field(default=300.0, gt=0)
    """A clip that takes longer gets 503. Keep it below `http_options.request_timeout_s`."""
    max_batch_size: int = Field(default=8, ge=1)
    """Clips of different requests that a model sees at once."""
    batch_wait_s: float = Field(default=0.01, ge=0)
    """How long the first clip of a batch waits for others."""
    torch_threads: int = Field(default=0, ge=0)
    """Threads of the decoder and of each encoder. 0: the decoder, which comes first, takes all cores of its machine, an
    encoder half of them, since scene and audio do nearly all of the work that then goes on side by side."""
    cpus_per_replica: float = Field(default=0.0, ge=0)
    """CPUs that each replica reserves unless the config file says otherwise. 0: the service takes none away from
    jobs on a small machine, and starts beside one that has taken them all."""


def build(args: ServeArgs) -> Application:
    """The application, checked as far as it can be before anything starts.

    Raises:
        MissingInputError: the ensemble or the bundle is not there; says which job makes it.
        ArtifactError: it is there and no ensemble, or was changed since it was saved.
        ConfigError: it was trained on face crops of the corpus's, and no detector is named.
        BackboneError: the bundle lacks a backbone of the ensemble, or has another one under its name.
    """
    require(args.ensemble, what="ensemble", made_by="python jobs/tune_fusion.py")
    require(
        args.models,
        what="bundle of models",
        made_by="python jobs/fetch_models.py` or `python jobs/make_debug_models.py",
    )
    card = check_ensemble(args.ensemble, BackboneStore(uri=args.models))
    config = artifacts.from_json(EnsembleConfig, card.config)
    media = for_new_videos(config.media, args.detector)
    settings = ReplicaSettings(
        ensemble=args.ensemble,
        models=args.models,
        device=args.device,
        torch_threads=args.torch_threads,
        max_batch_size=args.max_batch_size,
        batch_wait_s=args.batch_wait_s,
        with_pooled=config.takes_pooled,
    )
    encoder_ids: dict[str, str] = card.architecture["encoders"]
    encoders = {
        view: _deployment(EncoderReplica, f"{view.capitalize()}Encoder", args).bind(
            settings, view, encoder_ids[view], media
        )
        for view in config.views
    }
    ingress = _deployment(serve.ingress()(Ingress), "Ingress", args).options(
        # Its own limit answers first, with a sentence; this one is there in case it cannot.
        max_ongoing_requests=4 * args.max_requests,
        max_queued_requests=4 * args.max_requests,
        backpressure_config={"retry_after_s": RETRY_AFTER_S},
    )
    return ingress.bind(
        model_answer(card, config, args),
        _deployment(MediaDecoder, "MediaDecoder", args).bind(
            settings, media, config.views, card.task, any(_streams(args.ensemble, view) for view in config.views)
        ),
        encoders,
        _deployment(EnsembleModel, "Ensemble", args).bind(settings, card.artifact_id),
    )


def _streams(ensemble_uri: str, view: View) -> bool:
    """Whether a view's features are made from the video itself."""
    features = artifacts.read_card(encoder_uri(ensemble_uri, view)).config.get("features")
    return features is not None and streams(features_from_json(features)[view])


def _deployment(target: Any, name: str, args: ServeArgs) -> Deployment:
    return cast(Any, serve.deployment)(
        target,
        name=name,
        ray_actor_options={"num_cpus": args.cpus_per_replica},
        # All that the ingress lets in, and room for pings beside it.
        max_ongoing_requests=max(args.max_requests, args.max_batch_size) + 8,
        graceful_shutdown_timeout_s=10,
        health_check_period_s=3,  # how long a dead replica goes unnoticed
    )


def model_answer(card: Card, config: EnsembleConfig, args: ServeArgs) -> ModelAnswer:
    """The card as `/v1/model` shows it."""
    return ModelAnswer(
        artifact_id=card.artifact_id,
        task=card.task.name,
        output="classes" if isinstance(card.task.output, Classes) else "intensities",
        unit=card.task.unit,
        classes=list(card.task.names),
        recipe=card.recipe,
        weights=card.weights,
        seeds=list(card.seeds),
        members=[member.name.removeprefix("seed-") for member in config.members_of(card.seeds)],
        modalities=list(config.views),
        threshold=config.decision.threshold,
        decision=[asdict(step) for step in config.decision.steps],
        selected_on=card.selected_on,
        metrics=card.metrics,
        data=card.data,
        backbones=[
            BackboneAnswer(
                role=used.role, hub_id=used.hub_id, revision=used.revision, licence=used.licence, weights=used.weights
            )
            for used in card.backbones
        ],
        versions=card.versions,
        created=card.created,
        limits={
            "max_upload_mib": args.max_upload_mib,
            "max_audio_s": config.media.max_audio_s,
            "max_requests": args.max_requests,
            "timeout_s": args.timeout_s,
        },
    )
