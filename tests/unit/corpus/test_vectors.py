"""Vectors that the user brings: tables of each format, of clips and beside a corpus, and what may be wrong in them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus

A, B = [0.5, -1.25, 3.0], [1.0, 2.0, 1e-3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"not opened")
    return tmp_path


def write(file: Path, rows: Sequence[dict[str, object]]) -> str:
    """The same rows as a table in the format of the file's name; lists are JSON in CSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if file.suffix == ".parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        cells = [[row.get(name) for name in columns] for row in rows]
        texts = [["" if c is None else c if isinstance(c, str) else json.dumps(c) for c in row] for row in cells]
        quoted = [",".join(f'"{text}"' for text in row) for row in texts]
        file.write_text("\n".join([",".join(columns), *quoted]) + "\n")
    return str(file)


def vectors(corpus: Corpus) -> list[dict[str, list[float]]]:
    return [{name: vector.tolist() for name, vector in clip.vectors.items()} for clip in corpus.clips]


def as_float32(numbers: list[float]) -> list[float]:
    return np.asarray(numbers, np.float32).tolist()


@pytest.mark.parametrize("name", ["clips.csv", "clips.jsonl", "clips.parquet"])
def test_a_table_of_clips_brings_them_in_any_format(folder: Path, name: str) -> None:
    rows: list[dict[str, object]] = [
        {"video": "a.mp4", "vector.openai": A, "Vector.Giga-1": [1, 2]},
        {"video": "b.mp4", "vector.openai": B},
        {"video": "c.mp4"},
    ]
    corpus = read_corpus(write(folder / name, rows))
    assert vectors(corpus) == [{"openai": A, "giga-1": [1.0, 2.0]}, {"openai": as_float32(B)}, {}]
    assert {vector.dtype for clip in corpus.clips for vector in clip.vectors.values()} == {np.dtype(np.float32)}
    assert [clip.attributes for clip in corpus.clips] == [{}, {}, {}]
    assert (corpus.failures, corpus.notes) == ((), ())


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 3), pa.large_list(pa.float32())])
def test_every_kind_of_list_in_parquet(folder: Path, kind: pa.DataType) -> None:
    column = pa.array([A, None], type=kind)
    pq.write_table(pa.table({"video": ["a.mp4", "b.mp4"], "vector.x": column}), folder / "clips.parquet")
    assert vectors(read_corpus(str(folder / "clips.parquet"))) == [{"x": A}, {}]


@pytest.mark.parametrize(
    "cell",
    ["0.5 1.5", "7", "[]", "[[1.0]]", '["0.5"]', "[0.5, null]", "[NaN]", "[1e39]", "[true, false]", "[1", "{}"],
)
def test_a_cell_that_is_no_list_of_finite_numbers_costs_its_clip_alone(folder: Path, cell: str) -> None:
    quoted = cell.replace('"', '""')
    (folder / "clips.csv").write_text(f'video,vector.x\na.mp4,"{quoted}"\nb.mp4,"{B}"\n')
    corpus = read_corpus(str(folder / "clips.csv"))
    assert vectors(corpus) == [{}, {"x": as_float32(B)}]
    (failure,) = corpus.failures
    assert (failure.clip_id, failure.stage) == ("a.mp4", "corpus")
    assert failure.reason == (
        f"{folder}/clips.csv, row 2, column `vector.x`: write a list of finite numbers, such as [0.12, -0.5]; "
        f"found {cell!r}."
    )


@pytest.mark.parametrize("name", ["clips.jsonl", "clips.parquet"])
def test_a_gap_in_a_list_is_no_number(folder: Path, name: str) -> None:
    rows: list[dict[str, object]] = [{"video": "a.mp4", "vector.x": [0.5, None]}, {"video": "b.mp4", "vector.x": B}]
    corpus = read_corpus(write(folder / name, rows))
    assert [failure.clip_id for failure in corpus.failures] == ["a.mp4"]
    assert "row 1, column `vector.x`: write a list of finite numbers" in corpus.failures[0].reason


def test_lists_of_another_length_than_most_are_wrong(folder: Path) -> None:
    rows: list[dict[str, object]] = [{"video": f"{name}.mp4", "vector.x": A} for name in "abc"]
    rows[1]["vector.x"] = [1.0, 2.0]
    corpus = read_corpus(write(folder / "clips.jsonl", rows))
    assert vectors(corpus) == [{"x": A}, {}, {"x": A}]
    assert [failure.reason for failure in corpus.failures] == [
        f"{folder}/clips.jsonl, row 2, column `vector.x`: write 3 numbers, as in most rows; found 2."
    ]


@pytest.mark.parametrize("column", ["vectors.openai", "vector_openai", "vector.open ai", "Vector openai"])
def test_a_column_that_may_be_meant_is_refused(folder: Path, column: str) -> None:
    (folder / "clips.csv").write_text(f'video,{column}\na.mp4,"[1]"\n')
    with pytest.raises(CorpusError, match=r"if these are vectors, name it `vector\.NAME`"):
        read_corpus(str(folder / "clips.csv"))


def test_two_columns_of_one_name_are_refused(folder: Path) -> None:
    (folder / "clips.csv").write_text("video,vector.x,Vector.X\na.mp4,[1],[2]\n")
    with pytest.raises(CorpusError, match="two columns mean the same"):
        read_corpus(str(folder / "clips.csv"))


def beside(folder: Path, rows: Sequence[dict[str, object]], name: str = "v.jsonl") -> Corpus:
    return read_corpus(str(folder), vectors=write(folder / name, rows))


@pytest.mark.parametrize("name", ["v.csv", "v.jsonl", "v.parquet"])
@pytest.mark.parametrize("column", ["clip_id", "video"])
def test_a_table_beside_a_corpus(folder: Path, name: str, column: str) -> None:
    rows: list[dict[str, object]] = [{column: "b.mp4", "vector.x": A, "model": "y"}, {column: "gone.mp4"}]
    corpus = beside(folder, rows, name)
    assert vectors(corpus) == [{}, {"x": A}, {}]
    assert corpus.failures == ()
    assert corpus.notes[-2:] == (
        f"Rows of {name} of clips that are not in the corpus: 1.",
        f"Clips of which {name} has no row: 2.",
    )


def test_it_takes_the_place_of_the_corpus_s_own_and_leaves_others(folder: Path) -> None:
    own: list[dict[str, object]] = [{"video": "a.mp4", "clip_id": "one", "vector.x": A, "vector.y": [1.0]}]
    table = write(folder / "clips.jsonl", own)
    (folder / "else").mkdir()
    for column, name in (("clip_id", "one"), ("video", "../a.mp4")):
        other = write(folder / "else" / "v.jsonl", [{column: name, "vector.x": [7.0]}])
        assert vectors(read_corpus(table, vectors=other)) == [{"x": [7.0], "y": [1.0]}]


def test_bad_cells_beside_a_corpus_cost_their_clips_alone(folder: Path) -> None:
    rows: list[dict[str, object]] = [{"clip_id": f"{name}.mp4", "vector.x": A} for name in "abc"]
    rows[0]["vector.x"], rows[2]["vector.x"] = "none of it", [1.0]
    corpus = beside(folder, rows)
    assert vectors(corpus) == [{}, {"x": A}, {}]
    reasons = {failure.clip_id: failure.reason for failure in corpus.failures}
    assert sorted(reasons) == ["a.mp4", "c.mp4"]
    assert f"{folder}/v.jsonl, row 1, column `vector.x`: write a list" in reasons["a.mp4"]
    assert "row 3, column `vector.x`: write" in reasons["c.mp4"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"clip_id": "a.mp4", "x": A}], r"there is no column `vector\.NAME`"),
        ([{"name": "a.mp4", "vector.x": A}], "has no column `video`"),
        ([{"clip_id": "a.mp4", "vector.x": A}] * 2, "a clip may be there only once.* 'a.mp4' as in row 1"),
        ([{"clip_id": "A", "vector.x": A}], "No row of .* names a clip of the corpus"),
        ([{"clip_id": "", "vector.x": A}], "name the clip"),
    ],
)
def test_a_table_that_is_none_of_vectors_is_refused(folder: Path, rows: list[dict[str, object]], sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        beside(folder, rows)


def test_no_table_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match="There is nothing at"):
        read_corpus(str(folder), vectors=str(folder / "v.csv"))


def test_clips_can_be_compared_whatever_vectors_they_have() -> None:
    one = Clip(clip_id="a", video_uri="a.mp4", vectors={"x": np.zeros(2, np.float32)})
    assert one == Clip(clip_id="a", video_uri="a.mp4")
