"""The simple model of each kind of task finds what was planted in two hundred drawn clips, and nothing elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tiny_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What `jobs/planted_tasks.py` writes down of each task and preset."""
    output = tmp_path_factory.mktemp("planted")
    environment = os.environ.copy()
    environment.pop("RAY_ADDRESS", None)
    command = [
        sys.executable,
        "jobs/planted_tasks.py",
        "--seeds",
        "0",
        "--models",
        tiny_bundle,
        "--output",
        str(output),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {(found["task"], found["preset"]): found for found in json.loads((output / "results.json").read_text())}


def test_moments_of_ah_are_found(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    found = results["ah-frame", "default"]
    assert found["score"] >= found["baseline"] + 0.10  # weighted F1, of which the all-negative answer has much
    assert found["overlap"] >= 0.4


def test_eight_expressions_are_told_apart(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert results["expression", "default"]["score"] >= 0.6  # macro F1


def test_six_intensities_follow_the_planted_ones(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert results["mimicry", "default"]["score"] >= 0.5  # mean Pearson


@pytest.mark.parametrize("task", ["ah-frame", "expression", "mimicry"])
def test_nothing_is_found_where_nothing_was_planted(task: str, results: dict[tuple[str, str], dict[str, Any]]) -> None:
    found = results[task, "none"]
    assert found["low"] <= found["baseline"] <= found["high"] or found["score"] < found["baseline"]
