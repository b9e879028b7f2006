"""The simple model of each kind of task finds what was planted in drawn clips, and nothing where nothing was.

The job's own measure, two hundred clips of each task and preset with two seeds, takes three quarters of an hour: here
A/H per frame has half the clips, and no corpus without signal.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]


def results(models: str, output: Path, *options: str) -> dict[str, dict[str, Any]]:
    """What `jobs/planted_tasks.py` measured, by preset."""
    environment = os.environ.copy()
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "jobs/planted_tasks.py", "--seeds", "0", "--models", models, "--output", str(output)]
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {found["preset"]: found for found in json.loads((output / "results.json").read_text())}


def test_moments_of_ah_are_found(tiny_bundle: str, tmp_path: Path) -> None:
    found = results(tiny_bundle, tmp_path, "--tasks", "ah-frame", "--presets", "default", "--clips", "100")["default"]
    assert found["score"] >= found["baseline"] + 0.10  # weighted F1, of which the all-negative answer has much
    assert found["overlap"] >= 0.4


@pytest.mark.parametrize(("task", "least"), [("expression", 0.6), ("mimicry", 0.5)])
def test_expressions_and_intensities_are_found_where_they_are(
    task: str, least: float, tiny_bundle: str, tmp_path: Path
) -> None:
    found = results(tiny_bundle, tmp_path, "--tasks", task)
    assert found["default"]["score"] >= least  # macro F1; mean Pearson
    assert found["none"]["low"] <= found["none"]["chance"]  # worse than chance is no find
