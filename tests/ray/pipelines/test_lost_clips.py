"""A clip that kills the process that works on it is put aside; the clips beside it come through."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import cloudpickle
import pyarrow as pa
import pytest
import ray
import ray.data

from twominds.pipelines.cluster import cluster
from twominds.pipelines.sink import LOST, ClipSink, process_clips
from twominds.pipelines.stages import ERROR_FIELDS, map_stage
from twominds.records import Clip
from twominds.results import tables
from twominds.results.quarantine import read_quarantine

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Fragile:
    """Ends like a codec that crashes, at any of the given clips."""

    def __init__(self, deadly: set[str]) -> None:
        self._deadly = deadly

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._deadly & set(cast("list[str]", table["clip_id"].to_pylist())):
            os.kill(os.getpid(), signal.SIGKILL)
        return tables.append_columns(table, ERROR_FIELDS, [{"error_stage": "", "error": ""}] * table.num_rows)


def fragile(deadly: set[str], clips: Sequence[Clip], block_size: int) -> ray.data.Dataset:
    dataset = cast("ray.data.Dataset", ray.data.from_arrow(tables.clips_to_table(clips)))
    dataset = dataset.repartition(target_num_rows_per_block=block_size)
    return map_stage(
        dataset, Fragile, [{"deadly": deadly}], actors=1, threads=1, cpus=0.5, gpus=0, batch_size=block_size
    )


def available_cpus() -> float:
    return float(cast("Any", ray).available_resources().get("CPU", 0))


CLIPS = [Clip(clip_id=f"{i}.mp4", video_uri=f"/videos/{i}.mp4") for i in range(12)]


def test_only_the_clip_that_kills_is_lost(ray_session: None, tmp_path: Path) -> None:
    uri = str(tmp_path)
    sink = ClipSink(uri, ["clip_id", "video_uri", "split"], block_size=4)
    process_clips(sink, CLIPS, partial(fragile, {"5.mp4"}))
    others = {clip.clip_id for clip in CLIPS} - {"5.mp4"}
    assert {row["clip_id"] for row in tables.read_rows(uri, [])} == others
    assert [(failure.clip_id, failure.reason) for failure in read_quarantine(uri)] == [("5.mp4", LOST)]
    assert (sink.clips, [failure.clip_id for failure in sink.failures]) == (11, ["5.mp4"])


def test_what_comes_next_gets_all_the_cpus(ray_session: None) -> None:
    """After the test above, whose log pytest has forgotten by now, and with it what holds on to the actors."""
    with cluster() as cpus:
        deadline = time.monotonic() + 20
        while available_cpus() < cpus and time.monotonic() < deadline:
            time.sleep(0.2)
        assert available_cpus() == cpus, "actors are left that nobody needs: who trains next would wait for ever"
