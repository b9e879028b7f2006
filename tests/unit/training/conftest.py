import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Together = Callable[[str, int], None]


@pytest.fixture(autouse=True)
def one_thread(one_thread: None) -> None:
    """Every test of this folder runs on one thread."""


ROOT = Path(__file__).parents[3]


@pytest.fixture
def together(tmp_path: Path) -> Together:
    """Runs a script in several processes, with their rank, their number and `tmp_path` as arguments."""

    def run(script: str, count: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
        processes = [
            subprocess.Popen(
                [sys.executable, script, str(rank), str(count), str(tmp_path)],
                env=environment | {"LOCAL_RANK": str(rank)},  # as Ray Train sets it, for DeepSpeed
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(count)
        ]
        try:
            said = [process.communicate(timeout=240)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert all(process.returncode == 0 for process in processes), "\n".join(said)

    return run
