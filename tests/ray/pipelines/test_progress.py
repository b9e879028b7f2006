"""What workers report reaches the terminal of the job, all of it before the job goes on."""

from typing import Any

import pytest
import ray
from ray.util.queue import Queue

from twominds.pipelines import progress
from twominds.pipelines.progress import counted_clips, printed_lines

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=0)
def put(queue: Queue, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


def test_lines_of_a_worker_are_printed_in_their_order(ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    with printed_lines() as lines:
        ray.get(put.remote(lines, ["scene: epoch 1/8", "scene: epoch 2/8"]))
    assert capsys.readouterr().out.splitlines() == ["scene: epoch 1/8", "scene: epoch 2/8"]


def test_clips_of_all_workers_are_added_up(
    ray_session: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    with counted_clips(20) as queue:
        ray.get([put.remote(queue, [8]), put.remote(queue, [8, 4])])
    assert capsys.readouterr().out.splitlines()[-1] == "clips 20/20"


def test_an_error_in_the_job_is_not_hidden(ray_session: None) -> None:
    with pytest.raises(ValueError, match="no weights"), counted_clips(1):
        raise ValueError("no weights")
