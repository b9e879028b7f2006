"""Features left on the disk are those of their Parquet files, and nothing of them stays there."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds.records import PRESENT, Clip, Features, Modality, Split, absent, clip_labels
from twominds.results import tables
from twominds.results.on_disk import values_on_disk

FACE = Modality.FACE


def written(folder: Path, values: dict[str, npt.NDArray[Any] | None], split: Split, name: str) -> None:
    rows: list[tables.Row] = []
    for clip_id, array in values.items():
        clip = Clip(clip_id=clip_id, video_uri="", split=split, labels=clip_labels(1))
        presence = PRESENT if array is not None else absent("no face")
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        rows.append(row | tables.features_to_row(Features(clip_id=clip_id, view=FACE, presence=presence, values=array)))
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(field) for field in tables.WITHOUT_WORDS]
    table = pa.Table.from_pylist(rows, schema=pa.schema([*fields, *tables.features_fields(FACE)]))
    pq.write_table(table, folder / f"{name}.parquet")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_arrays_are_those_of_the_files_whatever_they_are_of(tmp_path: Path, here: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    first: dict[str, npt.NDArray[Any] | None] = {
        "a": rng.integers(0, 255, (3, 7), np.uint8),
        "b": rng.standard_normal((5, 2)).astype(np.float32),
        "gone": None,
    }
    second: dict[str, npt.NDArray[Any] | None] = {"c": np.arange(11), "empty": np.zeros((0, 4), np.float32)}
    written(tmp_path / "features", first, Split.TRAIN, "1")
    written(tmp_path / "features", second, Split.VALIDATION, "2")
    written(tmp_path / "features", {"t": np.ones(3)}, Split.TEST, "3")
    found = values_on_disk(str(tmp_path / "features"), FACE, (Split.TRAIN, Split.VALIDATION))
    assert found.keys() == {"a", "b", "c", "empty"}, "of the test split nothing is copied"
    for clip_id, array in {**first, **second}.items():
        if array is not None:
            assert found[clip_id].dtype == array.dtype
            np.testing.assert_array_equal(found[clip_id], array)
    assert [*here.iterdir()] == [], "faces lie about"
    tensor = torch.from_numpy(found["b"])
    tensor += 1  # what is written to a copy of it reaches no file
    again = values_on_disk(str(tmp_path / "features"), FACE, (Split.TRAIN,))
    np.testing.assert_array_equal(again["b"], first["b"])


def test_what_breaks_off_leaves_nothing(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "features").mkdir()
    written(tmp_path / "features", {"a": np.ones(3)}, Split.TRAIN, "1")

    def broken(_: bytes) -> npt.NDArray[Any]:
        raise OSError("no space left on device")

    monkeypatch.setattr(tables, "unpack_array", broken)
    with pytest.raises(OSError, match="no space"):
        values_on_disk(str(tmp_path / "features"), FACE, (Split.TRAIN,))
    assert [*here.iterdir()] == []


def test_no_clip_at_all(tmp_path: Path, here: Path) -> None:
    (tmp_path / "features").mkdir()
    written(tmp_path / "features", {"gone": None}, Split.TRAIN, "1")
    assert values_on_disk(str(tmp_path / "features"), FACE, (Split.TRAIN,)) == {}
    assert [*here.iterdir()] == []
