"""Modalities are dealt to pools of actors, and none is left out."""

import os
import sys
from typing import cast

import cloudpickle
import pyarrow as pa
import pytest
import ray.data

from twominds.pipelines.stages import StageResources, map_models

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class WhoDidIt:
    """Adds the number of its process."""

    def __init__(self, view: str) -> None:
        self._view = view

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.append_column(self._view, pa.array([os.getpid()] * table.num_rows))


def test_three_modalities_on_four_cpus(ray_session: None) -> None:
    dataset = cast("ray.data.Dataset", ray.data.from_arrow(pa.table({"clip_id": ["a", "b", "c"]})))
    arguments = [{"view": name} for name in ("scene", "face", "audio")]
    rows = map_models(dataset, WhoDidIt, arguments, StageResources(), cpus=4, clips=3).take_all()
    assert sorted(row["clip_id"] for row in rows) == ["a", "b", "c"]
    (row,) = {(row["scene"], row["face"], row["audio"]) for row in rows}
    assert row[0] == row[2] != row[1]
