"""How modalities share processes."""

import pyarrow as pa
import pytest

from twominds.pipelines.stages import InOneProcess, StageResources


@pytest.mark.parametrize(
    ("cpus", "modalities", "pools"),
    [(1, 4, 1), (2, 4, 1), (4, 4, 2), (7, 4, 3), (8, 4, 4), (64, 4, 4), (64, 1, 1)],
)
def test_every_other_cpu_runs_models_and_no_pool_is_without_a_modality(cpus: int, modalities: int, pools: int) -> None:
    assert StageResources().model_pools(cpus, modalities) == pools


class Column:
    """Adds how many columns were there before it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.append_column(self._name, pa.array([table.num_columns] * table.num_rows))


def test_each_stage_gets_what_the_one_before_it_made() -> None:
    both = InOneProcess(Column, [{"name": "scene"}, {"name": "face"}])
    assert both(pa.table({"clip_id": ["a", "b"]})).to_pylist() == [
        {"clip_id": "a", "scene": 1, "face": 2},
        {"clip_id": "b", "scene": 1, "face": 2},
    ]
