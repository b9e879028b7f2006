"""Preprocessing with Ray Data: a corpus in, one row of features per clip out.

    clips ─▶ Read (CPU actors) ─▶ ExtractFeatures (actors of models) ─▶ ClipSink

Streams: only the blocks in flight are in memory. Clips whose features (or whose quarantine entry) are already there
are left alone while their file and words are the same, so an interrupted job is simply run again, as is one whose
corpus has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import ray.data
from upath import UPath

from twominds.artifacts import fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.corpus.bah import Purpose
from twominds.corpus.manifest import read_corpus
from twominds.features.catalog import given_names, is_given
from twominds.media.decode import SceneFit
from twominds.pipelines.cluster import cluster
from twominds.pipelines.sink import ClipSink, check_usable, process_clips
from twominds.pipelines.stages import ExtractFeatures, StageResources, map_models, read_stage
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import WHISPER, Recipe
from twominds.records import Clip, Corpus, Failure, Modality, View, modality_of
from twominds.reports.coverage import add_coverage
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.about import ABOUT, About, absolute, claim_folder, read_about
from twominds.results.quarantine import QUARANTINE, empty_quarantine, quarantine_corpus, read_quarantine
from twominds.results.renewal import Renewal, Words, renew, replace_text
from twominds.results.sources import with_sources
from twominds.storage import require_writable
from twominds.workspace import Workspace, job_command, require

TEXTS = "texts"
"""Below the features, while texts are made again."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Turn the videos of a corpus into features."""

    corpus: str = field(default_factory=lambda: Workspace.default().corpus)
    """A BAH, Aff-Wild2 or Hume-Vidmimic2 tree, a table of clips (CSV, Parquet, JSON lines), or a folder of videos;
    local or s3://."""
    labels: str = ""
    """A table of labels of segments (`video,start_s,end_s,label`) or of frames (`video,frame,label`, or `time_s`), in
    place of the corpus's own; of intensities one column for each in place of `label`."""
    vectors: str = ""
    """A table (CSV, Parquet, JSON lines) of vectors that your own models made of the clips: `clip_id` (or `video`), and
    a list of numbers in each column `vector.NAME`. A table of clips may have such columns itself."""
    output: str = field(default_factory=lambda: Workspace.default().features)
    """Folder for the features; local or s3://."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    recipe: str = "leya"
    """The system to preprocess for (`platform/twominds/recipes/README.md` names all)."""
    detector: Literal["yolo", "yunet", "corpus"] | None = None
    """Who finds faces: YOLO (AGPL-3.0), OpenCV's YuNet, or the crops that come with BAH; by default the recipe says."""
    scene_fit: SceneFit | None = None
    """How a frame becomes the scene's square: `squeeze`, or `crop` as LEYA's published weights want it; by default the
    recipe says."""
    views: tuple[View, ...] = ()
    """What features are made of; by default what the recipe looks at. The others are not even decoded."""
    pooled: bool = False
    """Make pooled features too where the recipe takes none: for another fusion later (`tune_fusion --inputs pooled`).
    They cost a pass through VideoMAE and through the text backbone."""
    purpose: Purpose = "research"
    """What BAH's clips are for; participants who did not consent to a challenge or a publication are left out."""
    retry_quarantined: bool = False
    """Try the clips in quarantine again."""
    resources: StageResources = field(default_factory=StageResources)
    """Actors and GPUs."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""


def preprocess(config: PreprocessConfig) -> Summary:
    """Runs the job; returns what it did.

    Raises:
        MissingInputError: the corpus or the bundle is not there.
        ConfigError: the output holds features that were made with other settings.
        PipelineError: not one clip could be used.
    """
    require(config.corpus, what="corpus", made_by="python jobs/make_corpus.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    recipe, store = find_recipe(config.recipe), BackboneStore(uri=config.models)
    media = recipe.media
    media = replace(media, detector=config.detector or media.detector, scene_fit=config.scene_fit or media.scene_fit)
    recipe = replace(recipe, media=media)
    config = replace(config, views=config.views or recipe.views, pooled=_pools(config, recipe))
    check_backbones(recipe, store, config.views)
    corpus = read_corpus(
        config.corpus, purpose=config.purpose, task=recipe.task, labels=config.labels, vectors=config.vectors
    )
    require_writable(config.output)
    claim_folder(config.output, _about(config, recipe, store))
    used = given_names(recipe.features, config.views)
    clips = with_sources(corpus.clips, face_crops=recipe.media.detector == "corpus", vectors=used)
    corpus = replace(corpus, clips=tuple(clips))
    texts = _worded(recipe, config.views)
    renewal = renew(config.output, clips, words=_words(config.views, texts))
    if config.retry_quarantined:
        empty_quarantine(config.output)
    quarantine_corpus(config.output, corpus, renewal.done)
    before = read_quarantine(config.output)
    over = renewal.done | renewal.reworded | {failure.clip_id for failure in before}
    missing = [clip for clip in clips if clip.clip_id not in over]
    reworded = [clip for clip in clips if clip.clip_id in renewal.reworded]
    sink = ClipSink(config.output, _columns(config.views), block_size=config.resources.block_size)
    text_sink = _text_sink(config, texts)
    if missing or reworded:
        with cluster(config.address) as cpus:
            process_clips(sink, missing, lambda clips, size: _dataset(clips, config, recipe, store, cpus, size))
            text = replace(config, views=texts)
            process_clips(text_sink, reworded, lambda clips, size: _dataset(clips, text, recipe, store, cpus, size))
    replace_text(config.output, text_sink.uri, texts)
    failures = [*before, *sink.failures, *text_sink.failures]
    check_usable(len(renewal.done) + sink.clips + text_sink.clips, failures, config.output)
    summary = _summary(config, corpus, renewal, sink=sink, failures=failures)
    if reworded:
        summary.add("texts made again", text_sink.clips)
    return summary


def _worded(recipe: Recipe, views: Sequence[View]) -> tuple[View, ...]:
    """The views whose features hang on the corpus's words: those of the text, but for vectors that come with it."""
    return tuple(v for v in views if modality_of(v) is Modality.TEXT and not is_given(recipe.features[v]))


def _words(views: Sequence[View], texts: Sequence[View]) -> Words:
    """What of the features hangs on the corpus's words, which `texts` are made of."""
    if not texts:
        return "nothing"
    return "text" if len(views) > len(texts) else "all"


def _text_sink(config: PreprocessConfig, texts: Sequence[View]) -> ClipSink:
    """Where the text's features rest until they replace those of other words; empty of what an interrupted job left."""
    folder = UPath(f"{config.output}/{TEXTS}")
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)
    return ClipSink(str(folder), _columns(texts), block_size=config.resources.block_size)


def check_backbones(recipe: Recipe, store: BackboneStore, views: Sequence[View] = tuple(Modality)) -> None:
    """Looks for all that the features need before anything is started; Whisper is for corpora without words.

    Raises:
        BackboneError: names the first one that the bundle lacks, or that is not what was fetched, and what to do.
    """
    for role in recipe.frozen_roles(views):
        if role != WHISPER:
            store.check(role)


def _pools(config: PreprocessConfig, recipe: Recipe) -> bool:
    """Whether pooled features are made: where they are asked for, or the recipe takes them, or the folder has them."""
    there = (UPath(config.output) / ABOUT).exists() and read_about(config.output).pooled
    return config.pooled or recipe.fusion.takes_pooled or there


def _dataset(
    clips: Sequence[Clip], config: PreprocessConfig, recipe: Recipe, store: BackboneStore, cpus: int, block_size: int
) -> ray.data.Dataset:
    resources = replace(config.resources, block_size=block_size)
    read = [view for view in config.views if not is_given(recipe.features[view])]
    dataset = read_stage(clips, recipe.media, store, resources, cpus, read, recipe.task)
    of_all = {
        "store": store,
        "device": resources.device,
        "with_pooled": config.pooled,
        "media": recipe.media,
    }
    arguments = [{"view": view, "config": recipe.features[view], **of_all} for view in config.views]
    return map_models(dataset, ExtractFeatures, arguments, resources, cpus=cpus, clips=len(clips))


def _columns(views: Sequence[View]) -> list[str]:
    return [*tables.WITHOUT_WORDS, *(f.name for f in tables.features_fields(*views))]


def _about(config: PreprocessConfig, recipe: Recipe, store: BackboneStore) -> About:
    parts = {view: features_fingerprint(recipe, store, view) for view in config.views}
    return About(
        recipe=recipe.name,
        corpus=absolute(config.corpus),
        models=config.models,
        media=recipe.media,
        purpose=config.purpose,
        pooled=config.pooled,
        parts=parts,
        fingerprint=fingerprint(parts),
    )


def features_fingerprint(recipe: Recipe, store: BackboneStore, view: View) -> str:
    """Digest of all that bears on one modality's features: how clips are read, the backbone's settings, the weights."""
    used = {role: to_json(store.entry(role)) for role in recipe.frozen_roles([view]) if store.has(role)}
    points = [recipe.task.rate_hz or "every frame"] if recipe.task.per_frame else []  # they travel with the features
    return fingerprint(to_json(recipe.media), to_json(recipe.features[view]), used, *points)


def _summary(
    config: PreprocessConfig, corpus: Corpus, renewal: Renewal, *, sink: ClipSink, failures: list[Failure]
) -> Summary:
    summary = Summary(title="Preprocessing", where=config.output, notes=[*renewal.notes(), *corpus.notes])
    summary.add("clips in the corpus", len(corpus.clips))
    summary.add("features made now", sink.clips)
    summary.add("there from before", len(renewal.done))
    summary.add("in quarantine", f"{len(failures)} ({config.output}/{QUARANTINE})" if failures else 0)
    summary.failures = failures
    add_coverage(summary, config.output, config.views)
    summary.next_step = job_command("train_encoders", features=config.output, models=config.models)
    return summary
