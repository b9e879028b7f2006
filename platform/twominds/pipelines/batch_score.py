"""Batch scoring with Ray Data: a folder of videos in, the challenge's CSV and a readable one out.

clips ─▶ Read ─▶ EmbedMedia (one per view) ─▶ ScoreEmbeddings ─▶ ClipSink ─▶ scores.csv, details.csv
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import ray.data
from upath import UPath

from twominds import artifacts
from twominds.backbones import BackboneStore
from twominds.corpus.manifest import read_corpus
from twominds.media.reader import for_new_videos
from twominds.pipelines.cluster import cluster
from twominds.pipelines.model_stages import EmbedMedia, ScoreEmbeddings
from twominds.pipelines.sink import ClipSink, check_usable, process_clips
from twominds.pipelines.stages import StageResources, map_models, map_stage, model_cpus, read_stage
from twominds.records import Clip
from twominds.reports.coverage import add_coverage
from twominds.reports.submission import details, segments, submission, timeline_table
from twominds.reports.summary import Summary
from twominds.results import score_rows, tables
from twominds.results.about import About, absolute, claim_folder
from twominds.results.quarantine import (
    QUARANTINE,
    empty_quarantine,
    quarantine_corpus,
    quarantined_clips,
    read_quarantine,
)
from twominds.results.renewal import renew
from twominds.results.sources import with_sources
from twominds.scoring.ensemble import training_prior
from twominds.scoring.members import EnsembleConfig
from twominds.scoring.scorer import check_ensemble, encoder_uri
from twominds.storage import require_writable, write_whole
from twominds.tasks import Classes, Task
from twominds.workspace import Workspace, require

TIMELINE = "timeline"
"""Below the scores, of a task that asks about each moment. Not beside them: what lies there has a row a clip."""


@dataclass(frozen=True, kw_only=True)
class BatchScoreConfig:
    """Score a folder (or table) of videos.

    scores.csv is the challenge's: id, p0, p1, pred. A video without a score has the shares of the training labels.

    details.csv says the rest of each video. Columns: id; answer; p_CLASS, of each class; abstains, whether a person
    should decide; threshold; of each view VIEW, whether it was there, VIEW_reason, why not, and
    VIEW_probability, what its encoder by itself gives the last class; MODALITY_adds_CLASS, what the modality
    contributes to the score (Shapley values, in log-odds), prior_CLASS, what is said without any; opposed, the two
    modalities that pull in opposite directions; transcript_source; warnings; failed_in and
    error, why there is no score; ensemble; weights.
    """

    videos: str
    """A folder of videos, a table of clips (CSV, Parquet, JSON lines) or a BAH tree; local or s3://."""
    output: str
    """Folder for the two tables, the same in Parquet, and the quarantine; local or s3://."""
    ensemble: str = field(default_factory=lambda: Workspace.default().ensemble)
    """Folder of `jobs/tune_fusion.py`."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    detector: Literal["yolo", "yunet"] | None = None
    """Who finds faces; by default whoever did in training."""
    retry_quarantined: bool = False
    """Try the videos in quarantine again."""
    resources: StageResources = field(default_factory=StageResources)
    """Actors and GPUs."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""


def batch_score(config: BatchScoreConfig) -> Summary:
    """Runs the job; returns what it did. Clips that were scored before are left alone.

    Raises:
        MissingInputError: the ensemble, the bundle or the videos are not there.
        ArtifactError: the ensemble or one of its encoders was changed since it was saved.
        BackboneError: the bundle lacks a backbone of the ensemble, or has another one under its name.
        ConfigError: the output holds scores of another ensemble, or of other videos.
        PipelineError: not one video could be scored; said after the files are written.
    """
    require(config.videos, what="folder or table of videos")
    require(config.ensemble, what="ensemble", made_by="python jobs/tune_fusion.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    require_writable(config.output)
    card = check_ensemble(config.ensemble, BackboneStore(uri=config.models))
    ensemble = artifacts.from_json(EnsembleConfig, card.config)
    ensemble = replace(ensemble, media=for_new_videos(ensemble.media, config.detector))
    about = About(
        recipe=card.recipe,
        corpus=absolute(config.videos),
        models=config.models,
        media=ensemble.media,
        fingerprint=card.artifact_id,
    )
    claim_folder(config.output, about)
    corpus = read_corpus(config.videos, task=card.task, labels_required=False)
    corpus = replace(corpus, clips=tuple(with_sources(corpus.clips)))
    renewal = renew(config.output, corpus.clips)
    if config.retry_quarantined:
        empty_quarantine(config.output)
    quarantine_corpus(config.output, corpus, renewal.done)
    before = read_quarantine(config.output)
    over = renewal.done | {failure.clip_id for failure in before}
    missing = [clip for clip in corpus.clips if clip.clip_id not in over]
    sink = ClipSink(config.output, score_rows.scored_columns(ensemble.views), block_size=config.resources.block_size)
    if missing:
        with cluster(config.address) as cpus:
            process_clips(sink, missing, lambda clips, size: _dataset(clips, config, ensemble, card.task, cpus, size))
    scored = {row["clip_id"]: row for row in tables.read_rows(config.output)}
    aside = {clip.clip_id: failure for clip, failure in quarantined_clips(config.output)}
    ids = sorted(clip.clip_id for clip in corpus.clips)
    files = {
        "scores.csv": submission(ids, scored, card).encode(),
        "details.csv": details(ids, scored, aside, card, ensemble.views).encode(),
    }
    if card.task.per_frame:
        (UPath(config.output) / TIMELINE).mkdir(parents=True, exist_ok=True)
        files[f"{TIMELINE}/points.parquet"] = tables.to_parquet(timeline_table(ids, scored, card))
        if isinstance(card.task.output, Classes):
            files[f"{TIMELINE}/segments.csv"] = segments(ids, scored, card).encode()
    for name, content in files.items():
        write_whole(UPath(config.output) / name, content)
    failures = [*before, *sink.failures]
    check_usable(len(scored), failures, config.output)
    summary = Summary(title="Batch scoring", where=f"{config.output}/scores.csv", failures=failures)
    summary.notes = [*renewal.notes(), *corpus.notes]
    summary.add("videos", len(corpus.clips))
    summary.add("scored now", sink.clips)
    summary.add("there from before", len(renewal.done))
    if ensemble.decision.abstain_band:
        summary.add("better left to a person", sum(row["abstains"] for row in scored.values()))
    if guessed := len(ids) - len(scored):
        shares = ", ".join(
            f"{name} {share:.3f}" for name, share in zip(card.task.names, training_prior(card), strict=True)
        )
        what = "shares" if isinstance(card.task.output, Classes) else "means"
        summary.add("without a score", f"{guessed}; scores.csv has the training labels' {what} for them ({shares})")
    summary.add("in quarantine", f"{len(failures)} ({config.output}/{QUARANTINE})" if failures else 0)
    add_coverage(summary, config.output, ensemble.views)
    summary.add("files", "scores.csv for the challenge, details.csv to read")
    if card.task.per_frame:
        summary.add("timeline", f"each moment in {TIMELINE}/points.parquet, stretches of one class in segments.csv")
    summary.add("ensemble", f"{card.artifact_id} ({card.weights} weights)")
    return summary


def _dataset(
    clips: Sequence[Clip], config: BatchScoreConfig, ensemble: EnsembleConfig, task: Task, cpus: int, block_size: int
) -> ray.data.Dataset:
    resources, store = replace(config.resources, block_size=block_size), BackboneStore(uri=config.models)
    dataset = read_stage(clips, ensemble.media, store, resources, cpus, ensemble.views, task)
    arguments = [
        {
            "view": view,
            "encoder_uri": encoder_uri(config.ensemble, view),
            "store": store,
            "device": resources.device,
            "with_pooled": ensemble.takes_pooled,
            "media": ensemble.media,
        }
        for view in ensemble.views
    ]
    dataset = map_models(dataset, EmbedMedia, arguments, resources, cpus=cpus, clips=len(clips))
    return map_stage(
        dataset,
        ScoreEmbeddings,
        [{"ensemble_uri": config.ensemble}],
        actors=1,
        threads=1,
        cpus=model_cpus(cpus),
        gpus=0,
        batch_size=resources.block_size,  # more would be held back, with the media of all, until there are as many
    )
