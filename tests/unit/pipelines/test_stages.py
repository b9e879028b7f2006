"""How modalities share processes."""

import os
from collections.abc import Iterator

import pyarrow as pa
import pytest
import torch

from twominds.pipelines.stages import InOneProcess, StageResources


@pytest.mark.parametrize(
    ("cpus", "views", "pools"),
    [(1, 4, 1), (2, 4, 1), (4, 4, 2), (7, 4, 3), (8, 4, 4), (64, 4, 4), (64, 1, 1)],
)
def test_every_other_cpu_runs_models_and_no_pool_is_without_a_modality(cpus: int, views: int, pools: int) -> None:
    assert StageResources().model_pools(cpus, views) == pools


class Column:
    """Adds how many columns were there before it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.append_column(self._name, pa.array([table.num_columns] * table.num_rows))


@pytest.mark.parametrize(
    ("cpus", "clips", "readers", "models"),
    [(2, 8, 2, 2), (2, 9, 1, 2), (3, 100, 1, 3), (8, 100, 1, 2), (16, 8, 16, 16), (64, 100, 1, 16)],
)
def test_models_share_the_cpus_and_a_single_block_has_all(cpus: int, clips: int, readers: int, models: int) -> None:
    resources = StageResources()
    assert resources.reader_threads(cpus, clips=clips) == readers
    assert resources.model_threads(cpus, clips=clips, views=4) == models


def test_processes_of_one_kind_share_what_there_is() -> None:
    few = StageResources(readers=2, models=2, block_size=1)
    assert few.reader_threads(16, clips=100) == 4
    assert few.model_threads(16, clips=100, views=1) == 8
    assert few.model_threads(2, clips=100, views=4) == 1


@pytest.fixture
def keep_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("keep_threads")
def test_a_process_has_the_threads_that_it_is_given_and_no_more_than_cores() -> None:
    for asked in (1, 10_000):
        InOneProcess(Column, [], threads=asked)
        assert torch.get_num_threads() == min(asked, len(os.sched_getaffinity(0)))


@pytest.mark.usefixtures("keep_threads")
def test_each_stage_gets_what_the_one_before_it_made() -> None:
    both = InOneProcess(Column, [{"name": "scene"}, {"name": "face"}], threads=1)
    assert both(pa.table({"clip_id": ["a", "b"]})).to_pylist() == [
        {"clip_id": "a", "scene": 1, "face": 2},
        {"clip_id": "b", "scene": 1, "face": 2},
    ]
