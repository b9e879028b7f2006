"""The actors of a Ray Data pipeline: each takes Arrow tables, one row a clip, and adds its columns.

    Read ─▶ ExtractFeatures (one per modality)   in preprocess
    EmbedFeatures (one per modality)             in embed
    Read ─▶ EmbedMedia (one per modality)        in batch_score

A clip that fails keeps its row; `error_stage` and `error` say why, and the later stages leave it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import ray.data
import torch

from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder
from twominds.encoders.embedding import embed
from twominds.features.catalog import FeaturesConfig, build_extractor
from twominds.media.reader import MediaConfig, MediaReader
from twominds.pipelines import tables
from twominds.pipelines.tables import Row
from twominds.records import ClipMedia, Embedding, Failure, Features, Modality
from twominds.scoring.branch import Branch
from twominds.scoring.isolation import isolate

ERROR_FIELDS = [pa.field("error_stage", pa.string()), pa.field("error", pa.string())]
MEDIA_FIELDS = [pa.field("media", pa.large_binary()), *ERROR_FIELDS]


@dataclass(frozen=True, kw_only=True)
class StageResources:
    """What each kind of stage takes of the cluster. Zero actors: as many as the cluster has room for."""

    readers: int = 0
    """Actors that decode files and crop faces, one CPU each; 0: half of the cluster's CPUs."""
    models: int = 1
    """Actors per modality."""
    model_gpus: float = 0.0
    """GPU share of each model actor (and of each reader, for its face detector)."""
    block_size: int = 8
    """Clips in a block: what travels between stages, and what is lost and redone when a node dies."""

    def reader_actors(self, cpus: int) -> int:
        """Number of reader actors on a cluster of `cpus`."""
        return self.readers or max(1, cpus // 2)

    @property
    def device(self) -> str:
        """Where the models run."""
        return "cuda" if self.model_gpus > 0 else "cpu"


class Read:
    """Files become frames, sound, face crops and words."""

    def __init__(self, config: MediaConfig, store: BackboneStore, device: str) -> None:
        """Loads the face detector."""
        torch.set_num_threads(1)
        self._reader = MediaReader(config, store, device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds `media` and the error columns."""
        media = self._reader.read_many([tables.clip_from_row(row) for row in _rows(table)])
        return tables.append_columns(table, MEDIA_FIELDS, [_media_row(item) for item in media])


class ExtractFeatures:
    """The frozen backbone of one modality."""

    def __init__(self, modality: Modality, config: FeaturesConfig, store: BackboneStore, device: str) -> None:
        """Loads the backbone."""
        torch.set_num_threads(1)
        self._modality = modality
        self._extractor = build_extractor(modality, config, store, device=device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the modality's feature columns."""
        rows = _rows(table)
        outcomes = isolate(self._extract, _media_of(rows), stage=f"features.{self._modality}")
        return _add(table, rows, outcomes, tables.features_fields(self._modality))

    def _extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        return self._extractor.extract(media)


class EmbedMedia:
    """The frozen backbone and the trained encoder of one modality."""

    def __init__(self, modality: Modality, encoder_uri: str, store: BackboneStore, device: str) -> None:
        """Loads both."""
        torch.set_num_threads(1)
        self._modality = modality
        self._branch, _ = Branch.load(encoder_uri, store, device=device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the modality's embedding columns."""
        rows = _rows(table)
        outcomes = self._branch.embed(_media_of(rows))
        return _add(table, rows, outcomes, tables.embedding_fields(self._modality))


class EmbedFeatures:
    """The trained encoder of one modality, over features made before."""

    def __init__(self, modality: Modality, encoder_uri: str, device: str) -> None:
        """Loads the encoder."""
        torch.set_num_threads(1)
        self._modality = modality
        encoder, _ = load_encoder(encoder_uri)
        self._encoder = encoder.to(device)
        self._device = device

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the modality's embedding columns and drops its features, which they replace."""
        rows = _rows(table)
        features = [tables.features_from_row(row, self._modality) for row in rows if not row.get("error")]
        outcomes = isolate(self._embed, features, stage=f"encoders.{self._modality}")
        return _add(table, rows, outcomes, tables.embedding_fields(self._modality)).drop_columns(
            [f"{self._modality}_values"]
        )

    def _embed(self, features: Sequence[Features]) -> list[Embedding]:
        return embed(self._encoder, features, batch_size=max(1, len(features)), device=self._device)


def actor_pool(actors: int) -> ray.data.ActorPoolStrategy:
    """A pool that may start with one actor and grows to `actors`."""
    return ray.data.ActorPoolStrategy(min_size=1, max_size=actors)


def map_stage(
    dataset: ray.data.Dataset,
    stage: type,
    arguments: dict[str, Any],
    *,
    actors: int,
    cpus: float,
    gpus: float,
    batch_size: int,
) -> ray.data.Dataset:
    """`dataset` with the columns of `stage` added by its own pool of actors."""
    return dataset.map_batches(
        stage,
        fn_constructor_kwargs=arguments,
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=actor_pool(actors),
        num_cpus=cpus,
        num_gpus=gpus or None,
        zero_copy_batch=True,
    )


def model_cpus(cluster_cpus: int) -> float:
    """CPUs that each model actor reserves: small enough that all pools of a two-core machine can start at once."""
    return min(1.0, cluster_cpus / 2 / (len(Modality) + 1))


def _rows(table: pa.Table) -> list[Row]:
    return cast("list[Row]", table.to_pylist())


def _media_row(item: ClipMedia | Failure) -> Row:
    if isinstance(item, Failure):
        return {"media": None, "error_stage": item.stage, "error": item.reason}
    return {"media": tables.pack_media(item), "error_stage": "", "error": ""}


def _media_of(rows: Sequence[Row]) -> list[ClipMedia]:
    return [tables.unpack_media(row["media"]) for row in rows if not row["error"]]


def _add(
    table: pa.Table, rows: Sequence[Row], outcomes: Sequence[Features | Embedding | Failure], fields: list[pa.Field]
) -> pa.Table:
    """The modality's columns for every row, and the error columns with this stage's failures in them."""
    remaining = iter(outcomes)
    added: list[Row] = []
    for row in rows:
        errors = {"error_stage": row.get("error_stage") or "", "error": row.get("error") or ""}
        outcome = None if errors["error"] else next(remaining)
        if isinstance(outcome, Failure):
            added.append({"error_stage": outcome.stage, "error": outcome.reason})
        elif isinstance(outcome, Features):
            added.append(errors | tables.features_to_row(outcome))
        elif outcome is not None:
            added.append(errors | tables.embedding_to_row(outcome))
        else:
            added.append(errors)
    return tables.append_columns(table, [*ERROR_FIELDS, *fields], added)
