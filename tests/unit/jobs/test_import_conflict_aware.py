"""The job that imports ConflictAwareAH's published file: what it refuses. See tests/unit/recipes for the rest."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

JOB = str(Path(__file__).resolve().parents[3] / "jobs" / "import_conflict_aware.py")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["import_conflict_aware.py", *arguments])
    runpy.run_path(JOB, run_name="__main__")


def test_what_is_wrong_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path))
    with pytest.raises(SystemExit, match=r"import_conflict_aware: No file at nowhere\.pt"):
        run(monkeypatch, "--file", "nowhere.pt")
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(SystemExit, match="fetch_models"):
        run(monkeypatch, "--file", str(tmp_path / "other.pt"))
    (tmp_path / "models").mkdir()
    with pytest.raises(SystemExit, match=r"other\.pt is not ConflictAwareAH: it has no fusion_transformer"):
        run(monkeypatch, "--file", str(tmp_path / "other.pt"))
