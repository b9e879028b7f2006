"""Embedding with Ray Data: features in, one embedding per clip and view out.

features ─▶ EmbedFeatures (one actor pool, each with all encoders) ─▶ ClipSink
"""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa
import ray.data

from twominds import artifacts
from twominds.artifacts import Card, fingerprint, from_json
from twominds.errors import ConfigError
from twominds.media.reader import MediaConfig
from twominds.pipelines.cluster import cluster
from twominds.pipelines.model_stages import EmbedFeatures
from twominds.pipelines.sink import ClipSink, check_usable
from twominds.pipelines.stages import StageResources, map_stage, model_cpus, stored_rows
from twominds.pipelines.train_config import JOINTLY
from twominds.records import Modality, View, modality_of
from twominds.reports.coverage import add_coverage
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.about import About, claim_folder, read_about
from twominds.results.quarantine import carry_quarantine, quarantined_clips
from twominds.results.renewal import renew
from twominds.storage import require_writable
from twominds.workspace import Workspace, job_command, require


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Run the trained encoders over the features of a corpus."""

    features: str = field(default_factory=lambda: Workspace.default().features)
    """Folder of `jobs/preprocess.py`."""
    encoders: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder of `jobs/train_encoders.py`."""
    output: str = field(default_factory=lambda: Workspace.default().embeddings)
    """Folder for the embeddings; local or s3://."""
    views: tuple[View, ...] = ()
    """The encoders to run; by default those that there are features for."""
    resources: StageResources = field(default_factory=StageResources)
    """Actors and GPUs."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""


def embed_features(config: EmbedConfig) -> Summary:
    """Runs the job; returns what it did. Embeddings of other encoders, or of features that have changed, are replaced.

    Raises:
        MissingInputError: features or encoders are not there.
        ConfigError: the output holds embeddings of another corpus, or an encoder was trained on other pictures.
        PipelineError: not one clip could be embedded.
    """
    require(config.features, what="features", made_by="python jobs/preprocess.py")
    about = read_about(config.features)
    config = replace(config, views=config.views or tuple(about.parts))
    cards: dict[View, Card] = {}
    for view in config.views:
        uri = f"{config.encoders}/{view}"
        require(uri, what=f"{view} encoder", made_by=f"python jobs/train_encoders.py --views {view}")
        cards[view], _ = artifacts.verified(uri)
        check_scene_fit(view, cards[view], about)
    parts = {view: card.artifact_id for view, card in cards.items()}
    made_of = {view: about.parts.get(view) for view in config.views}
    require_writable(config.output)
    claim_folder(config.output, replace(about, parts=parts, fingerprint=fingerprint(made_of, parts)), renewable=True)
    clips, aside = tables.read_clips(config.features), quarantined_clips(config.features)
    words = "all" if Modality.TEXT in map(modality_of, config.views) else "nothing"
    renewal = renew(config.output, [*clips, *(clip for clip, _ in aside)], words=words)
    total, done = {clip.clip_id for clip in clips}, renewal.done
    columns = [*tables.WITHOUT_WORDS, *(f.name for f in tables.embedding_fields(*config.views))]
    sink, lacking = ClipSink(config.output, columns), carry_quarantine(config.features, config.output)
    if total - done:
        with cluster(config.address) as cpus:
            sink.take(_dataset(config, done, cpus), expected=len(total - done))
    failures = [*lacking, *sink.failures]
    check_usable(len(done) + sink.clips, failures, config.output)
    summary = Summary(title="Embedding", where=config.output, failures=failures, notes=renewal.notes())
    summary.add("clips with features", len(total))
    summary.add("embedded now", sink.clips)
    summary.add("there from before", len(done))
    summary.add("failed", len(sink.failures))
    summary.add("without features", f"{len(lacking)}, in quarantine since they were preprocessed" if lacking else 0)
    add_coverage(summary, config.output, config.views)
    summary.next_step = job_command("tune_fusion", embeddings=config.output, encoders=config.encoders)
    if any(card.data.get("trained") == JOINTLY for card in cards.values()):  # the fusion is there
        summary.next_step = job_command("evaluate", embeddings=config.output)
    return summary


def check_scene_fit(view: View, card: Card, about: About) -> None:
    """Refuses a scene encoder that knows frames of another shape than the features hold; all else would go on well.

    Raises:
        ConfigError: one has squeezed frames, the other cropped ones.
    """
    if view is not Modality.SCENE or "media" not in card.config:
        return
    trained_on = from_json(MediaConfig, card.config["media"]).scene_fit
    if trained_on != about.media.scene_fit:
        raise ConfigError(
            f"The scene encoder was trained on frames made square by `{trained_on}`, the features have "
            f"`{about.media.scene_fit}`. Make features of its kind, with another --output: "
            f"`python jobs/preprocess.py --scene-fit {trained_on}`."
        )


def _dataset(config: EmbedConfig, done: set[str], cpus: int) -> ray.data.Dataset:
    resources = config.resources
    clip = cast("list[pa.Field[Any]]", [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS])
    clip.append(pa.field(tables.OLD_LABEL, pa.int32()))
    schema = pa.schema([*clip, *tables.features_fields(*config.views)])
    arguments = [
        {"view": view, "encoder_uri": f"{config.encoders}/{view}", "device": resources.device} for view in config.views
    ]
    return map_stage(
        stored_rows(config.features, done, resources.block_size, schema),
        EmbedFeatures,
        arguments,  # in one process on any number of cores: to start one takes longer than its encoder
        actors=resources.models,
        threads=max(1, cpus // resources.models),
        cpus=model_cpus(cpus),
        gpus=resources.model_gpus,
        batch_size=resources.block_size,
    )
