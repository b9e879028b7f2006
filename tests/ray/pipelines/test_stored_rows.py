"""A folder of results to which an older version of the package wrote, and this one goes on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twominds.pipelines.stages import stored_rows
from twominds.records import Features, Modality, absent
from twominds.results import tables

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("old_first", [True, False])
def test_a_column_that_an_older_file_lacks_is_null_in_its_rows(
    ray_session: None, tmp_path: Path, old_first: bool
) -> None:
    del ray_session
    schema = pa.schema([pa.field("clip_id", pa.string()), *tables.features_fields(Modality.TEXT)])
    rows: list[dict[str, Any]] = []
    for name in ("old", "new"):
        features = Features(clip_id=name, view=Modality.TEXT, presence=absent("no words"), warnings=("cut",))
        rows.append({"clip_id": name, **tables.features_to_row(features)})
    old, new = (pa.Table.from_pylist([row], schema=schema) for row in rows)
    pq.write_table(old.drop_columns(["text_warnings"]), tmp_path / ("1.parquet" if old_first else "2.parquet"))
    pq.write_table(new, tmp_path / ("2.parquet" if old_first else "1.parquet"))
    found = {row["clip_id"]: row for row in stored_rows(str(tmp_path), set(), 8, schema).take_all()}
    assert {name: row["text_warnings"] for name, row in found.items()} == {"old": None, "new": ["cut"]}
    assert found["old"]["text_reason"] == "no words"
