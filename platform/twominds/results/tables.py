"""Records as Arrow tables, so that they can flow between machines and rest in Parquet.

One row is one clip. Arrays of any shape are cells of `.npy` bytes (self-describing, read with
`numpy.load(io.BytesIO(cell), allow_pickle=False)`); vectors are lists of float32, those of several points one after
another. Per view `v` there are `v_present` and `v_reason` beside its data, which is null where its modality is absent.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import safetensors.numpy
from upath import UPath

from twominds.records import (
    Clip,
    ClipMedia,
    Embedding,
    Features,
    FloatArray,
    Labels,
    Modality,
    Presence,
    Source,
    Split,
    Times,
    View,
    Word,
)
from twominds.storage import files_in

Row = dict[str, Any]
"""One row of a table, as Arrow gives it."""

VECTOR = pa.list_(pa.float32())
TIMES = pa.list_(pa.float64())
SENTENCES = pa.list_(pa.string())

CLIP_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_uri", pa.string()),
        ("split", pa.string()),
        (
            "labels",
            pa.struct([("values", VECTOR), ("known", pa.list_(pa.bool_())), ("times_s", TIMES), ("ends_s", TIMES)]),
        ),
        ("transcript", pa.string()),
        ("words", pa.list_(pa.struct([("text", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]))),
        ("vectors", pa.list_(pa.struct([("name", pa.string()), ("values", VECTOR)]))),
        ("participant_id", pa.string()),
        ("question", pa.int32()),
        ("attributes", pa.string()),
        ("face_crops_uri", pa.string()),
        ("source", pa.struct([("video", pa.string()), ("words", pa.string())])),
    ]
)
OLD_LABEL = "label"
"""What results of an older version have in place of `labels`: the class of a clip, a whole number."""
LABEL_COLUMNS = ("labels", OLD_LABEL)
"""What labels are read from: results of an older version have the class of a clip, a whole number."""
WITHOUT_WORDS = [name for name in CLIP_SCHEMA.names if name not in ("transcript", "words", "vectors")]
"""What results carry of a clip: not the transcript, which is personal, nor given vectors, but (in `source`) digests
that tell whether they have changed. (Features of words and tokens, and of given vectors, hold them again.)"""


POINTS = "points_s"
"""The column of the times at which the task wants answers; null where it wants one for the whole clip."""


def features_fields(*views: View) -> list["pa.Field[Any]"]:
    """Columns of the views' features, and of the points, which are the clip's."""
    return _fields(views, {"values": pa.large_binary(), "times_s": TIMES, "pooled": VECTOR})


def embedding_fields(*views: View) -> list["pa.Field[Any]"]:
    """Columns of the views' embeddings, and of the points, which are the clip's."""
    return _fields(views, dict.fromkeys((*_OF_POINTS.values(), "pooled"), VECTOR) | {_STRETCHES: pa.int32()})


def _fields(views: Sequence[View], data: Mapping[str, pa.DataType]) -> list["pa.Field[Any]"]:
    columns = {"present": pa.bool_(), "reason": pa.string(), **data, "warnings": SENTENCES}
    return [
        *(pa.field(f"{view}_{name}", kind) for view in views for name, kind in columns.items()),
        pa.field(POINTS, TIMES),
    ]


def pack_array(array: npt.NDArray[Any]) -> bytes:
    """An array as `.npy` bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unpack_array(cell: bytes) -> npt.NDArray[Any]:
    """The array of `pack_array`."""
    return cast("npt.NDArray[Any]", np.load(io.BytesIO(cell), allow_pickle=False))


def clip_to_row(clip: Clip) -> Row:
    """A clip as a row of `CLIP_SCHEMA`."""
    row: Row = {name: getattr(clip, name) for name in CLIP_SCHEMA.names}
    row["source"] = clip.source and asdict(clip.source)
    row["labels"] = clip.labels and _labels_cell(clip.labels)
    row["words"] = None if clip.words is None else [asdict(word) for word in clip.words]
    row["vectors"] = [{"name": name, "values": vector} for name, vector in clip.vectors.items()]
    row["split"] = None if clip.split is None else str(clip.split)
    row["attributes"] = json.dumps(dict(clip.attributes), sort_keys=True)
    return row


def clip_from_row(row: Row) -> Clip:
    """The clip of a row; without its transcript where the table has none."""
    fields: Row = {name: row.get(name) for name in CLIP_SCHEMA.names}
    fields["source"] = Source(**row["source"]) if row.get("source") else None
    fields["labels"] = labels_from_row(row)
    fields["words"] = None if row.get("words") is None else tuple(Word(**word) for word in row["words"])
    fields["vectors"] = {one["name"]: np.asarray(one["values"], np.float32) for one in row.get("vectors") or ()}
    fields["split"] = None if row.get("split") is None else Split(row["split"])
    fields["attributes"] = json.loads(row.get("attributes") or "{}")
    return Clip(**fields)


def labels_from_row(row: Row) -> Labels | None:
    """What the corpus says of the row's clip; None where it says nothing."""
    cell = row.get("labels")
    if cell is None:
        return None if row.get("label") is None else Labels.of_clip(row["label"])
    known = np.asarray(cell["known"], np.bool_)
    values = np.asarray(cell["values"], np.float32).reshape(len(known), -1)
    return Labels(values=values, known=known, times_s=_times(cell["times_s"]), ends_s=_times(cell.get("ends_s")))


def _labels_cell(labels: Labels) -> Row:
    times = {"times_s": labels.times_s, "ends_s": labels.ends_s}
    return {
        "values": labels.values.ravel().tolist(),
        "known": labels.known.tolist(),
        **{name: None if array is None else array.tolist() for name, array in times.items()},
    }


def clips_to_table(clips: Iterable[Clip]) -> pa.Table:
    """Clips as a table of `CLIP_SCHEMA`."""
    return pa.Table.from_pylist([clip_to_row(clip) for clip in clips], schema=CLIP_SCHEMA)


_ARRAYS = (
    "scene_frames",
    "scene_times_s",
    "face_crops",
    "face_detected",
    "face_times_s",
    "audio",
    "points_s",
)
"""The columns of a decoded clip that hold arrays."""
_GIVEN = "vector."
"""What stands before the name of a given vector among a decoded clip's arrays."""


def pack_media(media: ClipMedia) -> bytes:
    """A decoded clip as one safetensors blob (arrays and a JSON header)."""
    arrays = {name: np.ascontiguousarray(array) for name in _ARRAYS if (array := getattr(media, name)) is not None}
    arrays |= {f"{_GIVEN}{name}": np.ascontiguousarray(vector) for name, vector in media.vectors.items()}
    header = {
        "clip_id": media.clip_id,
        "duration_s": media.duration_s,
        "transcript": media.transcript,
        "transcript_source": media.transcript_source,
        "audio_start_s": media.audio_start_s,
        "words": None if media.words is None else [asdict(word) for word in media.words],
        "video": media.video if isinstance(media.video, str) else None,  # an upload's bytes stay where they are
        "face_crops_uri": media.face_crops_uri,
        "presence": {str(view): [p.present, p.reason] for view, p in media.presence.items()},
        "warnings": media.warnings,
        "sample_rate_hz": media.sample_rate_hz,
    }
    return safetensors.numpy.save(arrays, metadata={"media": json.dumps(header)})


def unpack_media(blob: bytes) -> ClipMedia:
    """The decoded clip of `pack_media`."""
    arrays = safetensors.numpy.load(blob)
    header_size = int.from_bytes(blob[:8], "little")
    header = json.loads(json.loads(blob[8 : 8 + header_size])["__metadata__"]["media"])
    header["presence"] = {
        Modality(name): Presence(present=present, reason=reason)
        for name, (present, reason) in header["presence"].items()
    }
    header["warnings"] = tuple(header["warnings"])
    header["words"] = None if header["words"] is None else tuple(Word(**word) for word in header["words"])
    vectors = {name.removeprefix(_GIVEN): array for name, array in arrays.items() if name.startswith(_GIVEN)}
    return ClipMedia(**{name: cast("Any", arrays.get(name)) for name in _ARRAYS}, vectors=vectors, **header)


def features_to_row(features: Features) -> Row:
    """One view's features as the cells of `features_fields`."""
    v = features.view
    return {
        f"{v}_present": features.presence.present,
        f"{v}_reason": features.presence.reason,
        f"{v}_values": None if features.values is None else pack_array(features.values),
        f"{v}_times_s": features.times_s,
        f"{v}_pooled": features.pooled,
        f"{v}_warnings": features.warnings,
        POINTS: features.points_s,
    }


def features_from_row(row: Row, view: View) -> Features:
    """One view's features of a row."""
    values = row.get(f"{view}_values")
    return Features(
        clip_id=row["clip_id"],
        view=view,
        presence=Presence(present=row[f"{view}_present"], reason=row[f"{view}_reason"]),
        values=None if values is None else unpack_array(values),
        times_s=_times(row.get(f"{view}_times_s")),
        points_s=_times(row.get(POINTS)),
        pooled=_vector(row[f"{view}_pooled"]),
        participant_id=row.get("participant_id"),
        warnings=_warnings(row, view),
    )


_OF_POINTS = {"vectors": "vector", "logits": "logits", "probabilities": "probabilities"}
"""Column names of what an embedding has for each point, by its field."""
_STRETCHES = "stretches"
"""How many rows an embedding has for the one point of a clip; folders of an older version have one."""


def embedding_to_row(embedding: Embedding) -> Row:
    """One view's embedding as the cells of `embedding_fields`."""
    v = embedding.view
    arrays = {column: getattr(embedding, field) for field, column in _OF_POINTS.items()}
    return {
        f"{v}_present": embedding.presence.present,
        f"{v}_reason": embedding.presence.reason,
        **{f"{v}_{column}": None if array is None else array.ravel() for column, array in arrays.items()},
        f"{v}_pooled": embedding.pooled,
        f"{v}_{_STRETCHES}": embedding.stretches,
        f"{v}_warnings": embedding.warnings,
        POINTS: embedding.points_s,
    }


def embedding_from_row(row: Row, view: View) -> Embedding:
    """One view's embedding of a row."""
    points_s = _times(row.get(POINTS))
    points = row.get(f"{view}_{_STRETCHES}") or 1 if points_s is None else len(points_s)
    cells = {field: _vector(row[f"{view}_{column}"]) for field, column in _OF_POINTS.items()}
    return Embedding(
        clip_id=row["clip_id"],
        view=view,
        presence=Presence(present=row[f"{view}_present"], reason=row[f"{view}_reason"]),
        **{field: None if cell is None else cell.reshape(points, -1) for field, cell in cells.items()},
        points_s=points_s,
        pooled=_vector(row[f"{view}_pooled"]),
        warnings=_warnings(row, view),
    )


def _warnings(row: Row, view: View) -> tuple[str, ...]:
    """None where the table is of a time before there were any."""
    return tuple(row.get(f"{view}_warnings") or ())


def points_from_row(row: Row) -> Times | None:
    """When the task asks about the clip of a row with the column `POINTS`; None: once, about the whole clip."""
    return _times(row.get(POINTS))


def _times(cell: Sequence[float] | None) -> Times | None:
    return None if cell is None else np.asarray(cell, dtype=np.float64)


def _vector(cell: Sequence[float] | None) -> FloatArray | None:
    return None if cell is None else np.asarray(cell, dtype=np.float32)


def append_columns(table: pa.Table, fields: Sequence["pa.Field[Any]"], rows: Sequence[Row]) -> pa.Table:
    """`table` with the columns `fields` added (or replaced), taken from `rows` in order."""
    added = pa.Table.from_pylist(list(rows), schema=pa.schema(fields))
    for column in fields:
        if column.name in table.schema.names:
            table = table.drop_columns([column.name])
        table = table.append_column(column, added.column(column.name))
    return table


def write_parquet(table: pa.Table, sink: Path | io.BytesIO) -> None:
    """Writes a table as a Parquet file.

    An hour's rows are one cell of half a gigabyte. Dictionary and statistics would hold six more copies of it, and
    compression one, for a tenth of its size.
    """
    fields = cast("Iterable[pa.Field[Any]]", table.schema)
    columns = dict(leaf for field in fields for leaf in _leaves(field.name, field.type))
    others = [name for name, kind in columns.items() if kind != pa.large_binary()]
    compression = {name: "zstd" if name in others else "none" for name in columns}
    cast("Any", pq).write_table(  # its stubs know use_dictionary as a bool alone
        table, sink, compression=compression, use_dictionary=others, write_statistics=others, row_group_size=64
    )


def _leaves(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """A column's parts under the names that Parquet has for them."""
    if pa.types.is_struct(kind):
        for field in cast("Iterable[pa.Field[Any]]", kind):
            yield from _leaves(f"{name}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{name}.list.element", cast("Any", kind).value_type)
    else:
        yield name, kind


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file; a table of an hour's rows goes into a file (`write_parquet`)."""
    buffer = io.BytesIO()
    write_parquet(table, buffer)
    return buffer.getvalue()


def of_today(table: pa.Table) -> pa.Table:
    """Rows of an older version with their labels where this one has them."""
    if OLD_LABEL not in table.schema.names:
        return table
    said = table.select([name for name in LABEL_COLUMNS if name in table.schema.names]).to_pylist()
    cells = [labels and _labels_cell(labels) for labels in map(labels_from_row, said)]
    fields: list[pa.Field[Any]] = [CLIP_SCHEMA.field("labels")]
    return append_columns(table.drop_columns([OLD_LABEL]), fields, [{"labels": cell} for cell in cells])


def read_clips(uri: str) -> list[Clip]:
    """The clips of a folder of results, without their words."""
    return [clip_from_row(row) for row in read_rows(uri, WITHOUT_WORDS)]


def read_rows(uri: str, columns: Sequence[str] | None = None, splits: Sequence[Split] | None = None) -> list[Row]:
    """Rows of the Parquet files below `uri`, one per clip id, sorted by it.

    Sinks write at least once, so a clip may stand in two files: the last one read counts.
    """
    rows: dict[str, Row] = {}
    for table in read_tables(uri, columns, splits):
        rows |= {row["clip_id"]: row for row in table.to_pylist()}
    return [rows[clip_id] for clip_id in sorted(rows)]


def read_tables(
    uri: str, columns: Sequence[str] | None = None, splits: Sequence[Split] | None = None
) -> Iterator[pa.Table]:
    """The Parquet files below `uri`, one after another."""
    wanted = None if columns is None else list(dict.fromkeys(["clip_id", "split", *columns]))
    for path in files_in(uri, "*.parquet"):
        table = read_table(path, wanted)
        if splits is not None:
            table = table.filter(pc.field("split").isin([split.value for split in splits]))
        yield table


def read_table(path: UPath, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file, or those of the columns that it has: it may be of an older version.

    Read by this thread alone, which also closes it. Arrow's own threads may hold on to a Python file for longer than
    there is a Python, and end the process with an abort.
    """
    with path.open("rb") as opened, pq.ParquetFile(cast("Any", opened), pre_buffer=False) as file:
        names = file.schema_arrow.names
        chosen = names if columns is None else [name for name in columns if name in names]
        return file.read(columns=chosen, use_threads=False)
