"""Records survive Arrow and Parquet unchanged, absent modalities and all."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from twominds.records import (
    PRESENT,
    Clip,
    ClipMedia,
    Embedding,
    Features,
    Labels,
    Modality,
    Split,
    View,
    absent,
    clip_labels,
)
from twominds.results import tables

RNG = np.random.default_rng(0)


def through_parquet(row: tables.Row, fields: list["pa.Field[Any]"], folder: Path) -> tables.Row:
    schema = pa.schema([pa.field("clip_id", pa.string()), *fields])
    table = pa.Table.from_pylist([row | {"clip_id": "a"}], schema=schema)
    tables.write_parquet(table, folder / "x.parquet")
    return pq.read_table(folder / "x.parquet").to_pylist()[0]


def test_clip_round_trip_keeps_every_field() -> None:
    clip = Clip(
        clip_id="Videos/a b.mp4",
        video_uri="s3://bucket/a b.mp4",
        split=Split.TEST,
        labels=clip_labels(1),
        transcript="",
        participant_id="7",
        question=3,
        attributes={"gender": "f", "age": "18-24"},
        face_crops_uri="s3://bucket/crops",
    )
    bare = Clip(clip_id="b", video_uri="b.mp4")
    rows = tables.clips_to_table([clip, bare]).to_pylist()
    assert [tables.clip_from_row(row) for row in rows] == [clip, bare]


def test_given_vectors_come_back_but_results_do_not_carry_them() -> None:
    vectors = {"a.b": RNG.standard_normal(5).astype(np.float32), "c": np.ones(2, np.float32)}
    clip = Clip(clip_id="a", video_uri="a.mp4", vectors=vectors)
    row = tables.clips_to_table([clip]).to_pylist()[0]
    back = tables.clip_from_row(row).vectors
    assert list(back) == list(vectors)
    for name, vector in vectors.items():
        np.testing.assert_array_equal(back[name], vector)
        assert back[name].dtype == np.float32
    del row["vectors"]  # as in results, and in tables of an older version
    assert tables.clip_from_row(row).vectors == {}
    assert "vectors" not in tables.WITHOUT_WORDS


def test_labels_of_frames_and_segments_come_back() -> None:
    values, known = np.array([[0.25, 1.0], [0.5, 0.0]], np.float32), np.array([True, False])
    times = np.array([0.0, 1.5])
    for labels in (
        Labels(values=values, known=known),
        Labels(values=values, known=known, times_s=times),
        Labels(values=values, known=known, times_s=times, ends_s=times + 1.5),
    ):
        clip = Clip(clip_id="a", video_uri="a.mp4", labels=labels)
        row = tables.clips_to_table([clip]).to_pylist()[0]
        assert tables.clip_from_row(row) == clip
    del row["labels"]["ends_s"]  # written before there were segments
    found = tables.clip_from_row(row).labels
    assert found is not None
    assert found.ends_s is None


def test_media_round_trip_keeps_arrays_reasons_and_unicode() -> None:
    media = ClipMedia(
        clip_id="ü.mp4",
        duration_s=3.25,
        scene_frames=RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
        face_crops=None,
        face_detected=np.array([True, False]),
        audio=RNG.standard_normal(1600).astype(np.float32),
        transcript='part of me wants to, "but" … då',
        transcript_source="caller",
        presence={
            Modality.SCENE: PRESENT,
            Modality.FACE: absent("no face was found"),
            Modality.AUDIO: PRESENT,
            Modality.TEXT: PRESENT,
        },
        warnings=("Of two sound tracks the “first” was taken.", "Only the first 90 s of the sound were used."),
    )
    back = tables.unpack_media(tables.pack_media(media))
    assert (back.presence, back.warnings) == (media.presence, media.warnings)
    assert (back.clip_id, back.duration_s, back.transcript, back.transcript_source, back.sample_rate_hz) == (
        media.clip_id,
        3.25,
        media.transcript,
        "caller",
        16_000,
    )
    assert back.face_crops is None
    assert back.scene_frames is not None
    assert back.audio is not None
    np.testing.assert_array_equal(back.scene_frames, media.scene_frames)
    np.testing.assert_array_equal(back.audio, media.audio)
    assert back.face_detected is not None
    assert back.face_detected.tolist() == [True, False]


def test_times_travel_and_an_upload_s_bytes_do_not() -> None:
    times_s = np.array([0.1, 0.2])
    media = ClipMedia(
        clip_id="a",
        duration_s=1.0,
        scene_frames=None,
        scene_times_s=times_s,
        face_crops=None,
        face_detected=None,
        audio=None,
        audio_start_s=-0.25,
        transcript=None,
        transcript_source="",
        presence=dict.fromkeys(Modality, PRESENT),
        points_s=times_s + 1,
        video="s3://bucket/a.mp4",
    )
    back = tables.unpack_media(tables.pack_media(media))
    assert (back.video, back.audio_start_s, back.face_times_s) == ("s3://bucket/a.mp4", -0.25, None)
    np.testing.assert_array_equal(back.scene_times_s, times_s)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(back.points_s, times_s + 1)  # pyright: ignore[reportArgumentType]
    uploaded = replace(media, video=np.zeros(9, np.uint8))
    assert tables.unpack_media(tables.pack_media(uploaded)).video is None


def test_features_round_trip_keeps_type_shape_and_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    pooled = RNG.standard_normal(6).astype(np.float32)
    features = Features(clip_id="a", view=Modality.SCENE, presence=PRESENT, values=values, pooled=pooled)
    row = through_parquet(tables.features_to_row(features), tables.features_fields(Modality.SCENE), tmp_path)
    back = tables.features_from_row(row, Modality.SCENE)
    assert back.values is not None
    assert back.pooled is not None
    assert back.values.dtype == np.uint8
    np.testing.assert_array_equal(back.values, values)
    np.testing.assert_array_equal(back.pooled, pooled)
    assert back.pooled.dtype == np.float32


def test_absent_features_and_embeddings_come_back_absent_with_their_reason(tmp_path: Path) -> None:
    reason = absent("the file has no sound track")
    features = Features(clip_id="a", view=Modality.AUDIO, presence=reason)
    row = through_parquet(tables.features_to_row(features), tables.features_fields(Modality.AUDIO), tmp_path)
    assert tables.features_from_row(row, Modality.AUDIO) == features
    embedding = Embedding(clip_id="a", view=Modality.AUDIO, presence=reason)
    row = through_parquet(tables.embedding_to_row(embedding), tables.embedding_fields(Modality.AUDIO), tmp_path)
    assert tables.embedding_from_row(row, Modality.AUDIO) == embedding


def test_an_embedding_of_several_stretches_comes_back_with_all_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {name: rng.random((3, size), np.float32) for name, size in (("vectors", 4), ("logits", 2))}
    embedding = Embedding(clip_id="a", view=Modality.FACE, presence=PRESENT, **arrays)
    row = through_parquet(tables.embedding_to_row(embedding), tables.embedding_fields(Modality.FACE), tmp_path)
    back = tables.embedding_from_row(row, Modality.FACE)
    for name, rows in arrays.items():
        np.testing.assert_array_equal(getattr(back, name), rows)
    older = {name: cell for name, cell in row.items() if name != "face_stretches"}
    of_old = tables.embedding_from_row(older, Modality.FACE).vectors
    assert of_old is not None
    assert of_old.shape == (1, 12), "before there were several, all was one row"


def test_embedding_round_trip(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        name: RNG.standard_normal((1, 4)).astype(np.float32) for name in ("vectors", "logits", "probabilities")
    }
    embedding = Embedding(clip_id="a", view=Modality.TEXT, presence=PRESENT, **arrays)
    row = through_parquet(tables.embedding_to_row(embedding), tables.embedding_fields(Modality.TEXT), tmp_path)
    back = tables.embedding_from_row(row, Modality.TEXT)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(back, name), array)
    assert back.pooled is None


def test_warnings_go_through_parquet_and_a_table_from_before_there_were_any_has_none(tmp_path: Path) -> None:
    said, text = ("the first.", "the “second”."), Modality.TEXT
    features = Features(clip_id="a", view=text, presence=absent("no words"), warnings=said)
    embedding = Embedding(clip_id="a", view=text, presence=absent("no words"), warnings=said)
    for name, item, to_row, from_row, fields in (
        ("features", features, tables.features_to_row, tables.features_from_row, tables.features_fields(text)),
        ("embeddings", embedding, tables.embedding_to_row, tables.embedding_from_row, tables.embedding_fields(text)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        row = through_parquet(cast(Any, to_row)(item), fields, folder)
        assert from_row(row, text).warnings == said
        pq.write_table(pq.read_table(folder / "x.parquet").drop_columns(["text_warnings"]), folder / "x.parquet")
        columns = [field.name for field in fields]
        (old,) = next(tables.read_tables(str(folder), columns)).to_pylist()
        assert from_row(old, text) == replace(item, warnings=())


def test_no_pickle_gets_through_an_array_cell() -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        tables.pack_array(objects)


def test_read_rows_gives_each_clip_once_in_order_and_only_the_split_asked_for(tmp_path: Path) -> None:
    schema = pa.schema([("clip_id", pa.string()), ("split", pa.string()), ("label", pa.int32())])
    first = [{"clip_id": "b", "split": "val", "label": 0}, {"clip_id": "a", "split": "train", "label": 1}]
    pq.write_table(pa.Table.from_pylist(first, schema=schema), tmp_path / "1.parquet")
    pq.write_table(pa.Table.from_pylist(first[:1], schema=schema), tmp_path / "2.parquet")
    assert [row["clip_id"] for row in tables.read_rows(str(tmp_path))] == ["a", "b"]
    assert [row["clip_id"] for row in tables.read_rows(str(tmp_path), ["label"], [Split.TRAIN])] == ["a"]
    assert tables.read_rows(str(tmp_path / "missing")) == []


def test_a_file_is_read_by_the_thread_that_asks_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's threads outlive the interpreter: a Python file that one of them still holds ends the process by abort."""
    table = pa.table({"clip_id": ["a", "b"], "split": ["train", "val"], "values": [b"x" * 10**6, b"y" * 10**6]})
    for name in ("1", "2"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    opened, readers = list[Any](), set[int]()

    class Watched(io.FileIO):
        def readinto(self, *arguments: Any) -> Any:
            readers.add(threading.get_ident())
            return super().readinto(*arguments)

        def read(self, *arguments: Any) -> Any:
            readers.add(threading.get_ident())
            return super().read(*arguments)

    def open_watched(path: UPath, mode: str) -> io.FileIO:
        opened.append(Watched(path.path, mode))
        return opened[-1]

    monkeypatch.setattr(type(UPath(tmp_path)), "open", open_watched)
    abandoned = tables.read_tables(str(tmp_path), ["values"], [Split.TRAIN])
    assert next(abandoned)["clip_id"].to_pylist() == ["a"]
    assert opened
    assert all(file.closed for file in opened), "although the reader may never come back"
    assert len(tables.read_rows(str(tmp_path))) == 2
    assert readers == {threading.get_ident()}


def test_transcripts_do_not_travel_with_results() -> None:
    assert not {"transcript", "words"} & set(tables.WITHOUT_WORDS)
    assert set(tables.WITHOUT_WORDS) | {"transcript", "words", "vectors"} == set(tables.CLIP_SCHEMA.names)


def test_labels_of_several_points_come_back_with_their_times(tmp_path: Path) -> None:
    times_s = np.array([0.0, 0.04, 0.08])
    per_frame = Labels(
        values=np.array([[1], [0], [0]], np.float32), known=np.array([True, False, True]), times_s=times_s
    )
    intensities = Labels.of_clip(0.25, 0.0, 1.0)
    clips = [Clip(clip_id=str(i), video_uri="", labels=of) for i, of in enumerate((per_frame, intensities, None))]
    pq.write_table(tables.clips_to_table(clips), tmp_path / "x.parquet")
    found = tables.read_clips(str(tmp_path))
    assert found == clips
    assert [None if clip.labels is None else clip.labels.values.shape for clip in found] == [(3, 1), (1, 3), None]


def test_the_class_of_a_table_from_before_there_were_points_is_the_label_of_its_clip(tmp_path: Path) -> None:
    schema = pa.schema([("clip_id", pa.string()), ("video_uri", pa.string()), ("label", pa.int32())])
    rows = [{"clip_id": str(i), "video_uri": "", "label": label} for i, label in enumerate((0, 1, None))]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "x.parquet")
    found = [tables.clip_from_row(row) for row in tables.read_rows(str(tmp_path), tables.LABEL_COLUMNS)]
    assert [clip.labels for clip in found] == [clip_labels(0), clip_labels(1), None]
    assert [clip.label for clip in found] == [0, 1, None]


def test_views_of_several_points_share_the_clips_times(tmp_path: Path) -> None:
    points_s, views = np.array([0.0, 0.5, 1.0]), ("face.effnet", "text")
    row: tables.Row = {}
    embeddings: dict[View, Embedding] = {}
    for view, dim in zip(views, (4, 2), strict=True):
        arrays: dict[str, Any] = {
            name: RNG.standard_normal((3, size)).astype(np.float32)
            for name, size in (("vectors", dim), ("logits", 6), ("probabilities", 6))
        }
        embeddings[view] = Embedding(clip_id="a", view=view, presence=PRESENT, points_s=points_s, **arrays)
        row |= tables.embedding_to_row(embeddings[view])
    fields = tables.embedding_fields(*views)
    assert [field.name for field in fields].count(tables.POINTS) == 1
    row = through_parquet(row, fields, tmp_path)
    for view, embedding in embeddings.items():
        back = tables.embedding_from_row(row, view)
        for name in ("vectors", "logits", "probabilities", "points_s"):
            np.testing.assert_array_equal(getattr(back, name), getattr(embedding, name))


def test_features_come_back_with_the_times_of_their_rows_and_of_the_points(tmp_path: Path) -> None:
    times_s, points_s = np.array([0.1, 0.3]), np.array([0.0, 0.2, 0.4])
    values = RNG.standard_normal((2, 5)).astype(np.float32)
    features = Features(clip_id="a", view="audio", presence=PRESENT, values=values, times_s=times_s, points_s=points_s)
    row = through_parquet(tables.features_to_row(features), tables.features_fields("audio", "text"), tmp_path)
    back = tables.features_from_row(row, "audio")
    np.testing.assert_array_equal(back.times_s, times_s)
    np.testing.assert_array_equal(back.points_s, points_s)


def test_arrays_are_written_as_they_are_and_all_else_is_compressed(tmp_path: Path) -> None:
    """Parquet's dictionary and statistics would hold copies of an hour's rows, which are one cell."""
    kinds = [cast("pa.Field[Any]", tables.CLIP_SCHEMA.field("words")), *tables.features_fields(Modality.FACE)]
    row = {"face_values": b"1", "face_reason": "so", "words": [{"text": "so"}]}
    read = through_parquet(row, kinds, tmp_path)
    assert read == dict.fromkeys(read) | row | {
        "clip_id": "a",
        "words": [{"text": "so", "start_s": None, "end_s": None}],
    }
    group = cast(Any, pq.ParquetFile(tmp_path / "x.parquet")).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {name for name, column in columns.items() if column.compression == "UNCOMPRESSED"} == {"face_values"}
    assert (columns["face_reason"].has_dictionary_page, columns["face_reason"].is_stats_set) == (True, True)
    assert (columns["face_values"].has_dictionary_page, columns["face_values"].is_stats_set) == (False, False)
