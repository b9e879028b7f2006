"""The actors of a Ray Data pipeline: each takes Arrow tables, one row a clip, and adds its columns.

    Read ─▶ ExtractFeatures (one per view)                    in preprocess
    EmbedFeatures (all encoders)                                  in embed       (`model_stages.py`)
    Read ─▶ EmbedMedia (one per view) ─▶ ScoreEmbeddings      in batch_score (`model_stages.py`)

Modalities share a process where the cluster has few cores (`map_models`). A clip that fails keeps its row;
`error_stage` and `error` say why, and the later stages leave it alone.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import ray.data
import torch

from twominds.backbones import BackboneStore
from twominds.features.catalog import AnyFeaturesConfig, build_extractor
from twominds.media.reader import MediaConfig, MediaReader
from twominds.records import Clip, ClipMedia, Failure, Modality, View
from twominds.results import tables
from twominds.results.tables import Row
from twominds.scoring.isolation import isolate
from twominds.storage import files_in, storage_of
from twominds.tasks import AH_VIDEO, Task

ERROR_FIELDS = [pa.field("error_stage", pa.string()), pa.field("error", pa.string())]
MEDIA_FIELDS = [pa.field("media", pa.large_binary()), pa.field("transcript_source", pa.string()), *ERROR_FIELDS]


@dataclass(frozen=True, kw_only=True)
class StageResources:
    """What each kind of stage takes of the cluster. Zero actors: as many as the cluster has room for."""

    readers: int = 0
    """Actors that decode files and crop faces; 0: one for every two of the cluster's CPUs."""
    models: int = 1
    """Actors of each pool of models. Each view has a pool of its own on eight CPUs or more; on fewer they share."""
    model_gpus: float = 0.0
    """GPU share of each model actor (and of each reader, for its face detector)."""
    block_size: int = 8
    """Clips in a block: what travels between stages, and what is lost and redone when a node dies."""

    def reader_actors(self, cpus: int) -> int:
        """Number of reader actors on a cluster of `cpus`."""
        return self.readers or max(1, cpus // 2)

    def model_pools(self, cpus: int, views: int) -> int:
        """Number of pools that run the models of so many views on a cluster of `cpus`.

        One for each view, but no more than every other CPU: the others read. A process loads its libraries for
        seconds before it works, and where more of them work than there are cores, they only wait for each other.
        """
        return min(views, max(1, cpus // 2))

    def reader_threads(self, cpus: int, *, clips: int) -> int:
        """Threads of each reader: all of them where the clips are one block, which goes from process to process."""
        return cpus if clips <= self.block_size else max(1, cpus // 2 // self.reader_actors(cpus))

    def model_threads(self, cpus: int, *, clips: int, views: int) -> int:
        """Threads of each process that runs models: their share of all CPUs.

        The readers' as well: models take several times as long as reading, which mostly waits for them (full-size
        models, clips of 27 s, two cores: 8 s a clip, 11 s where a core was left to the reader).
        """
        return cpus if clips <= self.block_size else max(1, cpus // (self.models * self.model_pools(cpus, views)))

    @property
    def device(self) -> str:
        """Where the models run."""
        return "cuda" if self.model_gpus > 0 else "cpu"


class Read:
    """Files become frames, sound, face crops and words."""

    def __init__(
        self, config: MediaConfig, store: BackboneStore, device: str, views: Sequence[View], task: Task
    ) -> None:
        """Loads the face detector, where faces are wanted."""
        self._reader = MediaReader(config, store, device, views, task)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds `media`, `transcript_source` and the error columns."""
        media = self._reader.read_many([tables.clip_from_row(row) for row in rows_of(table)])
        return tables.append_columns(table, MEDIA_FIELDS, [_media_row(item) for item in media])


class ExtractFeatures:
    """The frozen backbone of one view."""

    def __init__(
        self,
        view: View,
        config: AnyFeaturesConfig,
        store: BackboneStore,
        device: str,
        with_pooled: bool,
        media: MediaConfig,
    ) -> None:
        """Loads the backbone, where it is needed."""
        self._view = view
        self._extractor = build_extractor(view, config, store, device=device, with_pooled=with_pooled, media=media)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the view's feature columns."""
        rows = rows_of(table)
        outcomes = isolate(self._extract, media_of(rows), stage=f"features.{self._view}")
        return add_outcomes(table, rows, outcomes, tables.features_fields(self._view))

    def _extract(self, media: Sequence[ClipMedia]) -> list[Row]:
        return [tables.features_to_row(features) for features in self._extractor.extract(media)]


def map_stage(
    dataset: ray.data.Dataset,
    stage: type,
    arguments: Sequence[dict[str, Any]],
    *,
    actors: int,
    threads: int,
    cpus: float,
    gpus: float,
    batch_size: int,
) -> ray.data.Dataset:
    """`dataset` with the columns that `stage` adds with each of the arguments, by a pool of actors of its own.

    Clips that come one by one wait for each other outside of the actor, where another's crash can't take them along.
    """
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to say max_task_retries, and calls this one deprecated.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        return dataset.map_batches(
            InOneProcess,
            fn_constructor_kwargs={"stage": stage, "arguments": arguments, "threads": threads},
            batch_format="pyarrow",
            batch_size=batch_size,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=actors, max_tasks_in_flight_per_actor=1 if batch_size == 1 else None
            ),
            num_cpus=cpus,
            num_gpus=gpus or None,
            zero_copy_batch=True,
            # Not for ever, as is Ray's way: a clip that kills whoever touches it must come to an end (`process_clips`).
            max_task_retries=1,
        )


class InOneProcess:
    """Stages one after another, without the table leaving the process in between."""

    def __init__(self, stage: type, arguments: Sequence[dict[str, Any]], threads: int) -> None:
        """Builds a stage with each of the arguments, and gives the process its threads, no more than it has cores."""
        torch.set_num_threads(min(threads, len(os.sched_getaffinity(0))))
        self._stages = [stage(**named) for named in arguments]

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the columns of all."""
        for stage in self._stages:
            table = stage(table)
        return table


def map_models(
    dataset: ray.data.Dataset,
    stage: type,
    arguments: Sequence[dict[str, Any]],
    resources: StageResources,
    *,
    cpus: int,
    clips: int,
) -> ray.data.Dataset:
    """`dataset` with the columns that `stage` adds with each of the arguments, one of which is a view's.

    As many pools of actors as the cluster has room for (`StageResources.model_pools`); the last has fewest.
    """
    pools = resources.model_pools(cpus, len(arguments))
    for first in range(pools):
        dataset = map_stage(
            dataset,
            stage,
            arguments[first::pools],
            actors=resources.models,
            threads=resources.model_threads(cpus, clips=clips, views=len(arguments)),
            cpus=model_cpus(cpus),
            gpus=resources.model_gpus,
            batch_size=resources.block_size,
        )
    return dataset


def read_stage(
    clips: Sequence[Clip],
    media: MediaConfig,
    store: BackboneStore,
    resources: StageResources,
    cpus: int,
    views: Sequence[View] = tuple(Modality),
    task: Task = AH_VIDEO,
) -> ray.data.Dataset:
    """The start of a pipeline over files: clips in blocks, decoded."""
    dataset = cast("ray.data.Dataset", ray.data.from_arrow(tables.clips_to_table(clips)))
    return map_stage(
        dataset.repartition(target_num_rows_per_block=resources.block_size),
        Read,
        [
            {
                "config": media,
                "store": store,
                "device": resources.device,
                "views": tuple(views),
                "task": task,
            }
        ],
        actors=resources.reader_actors(cpus),
        threads=resources.reader_threads(cpus, clips=len(clips)),
        cpus=min(1.0, cpus / 4),
        gpus=resources.model_gpus,
        batch_size=resources.block_size,
    )


def stored_rows(uri: str, done: set[str], block_size: int, schema: pa.Schema) -> ray.data.Dataset:
    """The start of a pipeline over results: a folder's rows in blocks, without the clips that are done.

    The columns are those of `schema`; one that a file does not have, for it is older, is null in its rows.
    """
    files = [storage_of(str(path))[1] for path in files_in(uri, "*.parquet")]
    dataset = ray.data.read_parquet(files, filesystem=storage_of(uri)[0], columns=schema.names, schema=schema)
    if done:
        dataset = dataset.filter(lambda row: row["clip_id"] not in done)
    return dataset.repartition(target_num_rows_per_block=block_size)


def model_cpus(cluster_cpus: int) -> float:
    """CPUs that each model actor reserves: few enough that all pools of a two-core machine can start at once.

    What they, the readers and the writing tasks reserve together must leave a whole CPU for the tasks between them.
    """
    return min(1.0, cluster_cpus / 20)


def rows_of(table: pa.Table) -> list[Row]:
    """The rows of a batch."""
    return table.to_pylist()


def _media_row(item: ClipMedia | Failure) -> Row:
    if isinstance(item, Failure):
        return {"error_stage": item.stage, "error": item.reason}
    media = tables.pack_media(item)
    return {"media": media, "transcript_source": item.transcript_source, "error_stage": "", "error": ""}


def media_of(rows: Sequence[Row]) -> list[ClipMedia]:
    """The decoded clips of the rows that have not failed."""
    return [tables.unpack_media(row["media"]) for row in rows if not row["error"]]


def add_outcomes(
    table: pa.Table, rows: Sequence[Row], outcomes: Sequence[Row | Failure], fields: list["pa.Field[Any]"]
) -> pa.Table:
    """The columns `fields` for every row, and the error columns with this stage's failures in them.

    Args:
        table: The batch of clips.
        rows: The same batch, row by row.
        outcomes: One for each row that had not failed before, in order.
        fields: The columns that the outcomes fill.
    """
    remaining = iter(outcomes)
    added: list[Row] = []
    for row in rows:
        errors = {"error_stage": row.get("error_stage") or "", "error": row.get("error") or ""}
        outcome = None if errors["error"] else next(remaining)
        if isinstance(outcome, Failure):
            added.append({"error_stage": outcome.stage, "error": outcome.reason})
        else:
            added.append(errors | (outcome or {}))
    return tables.append_columns(table, [*ERROR_FIELDS, *fields], added)
