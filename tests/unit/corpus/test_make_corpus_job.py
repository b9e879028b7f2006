import runpy
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).resolve().parents[3] / "jobs" / "make_corpus.py"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    return Run(monkeypatch, capsys)


class Run:
    """Runs the job as its command line does, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments: str) -> str:
        self.monkeypatch.setattr(sys, "argv", [str(JOB), *arguments])
        runpy.run_path(str(JOB), run_name="__main__")
        return self.capsys.readouterr().out


def test_job_draws_a_corpus_once_and_says_what_is_next(run: Run, tmp_path: Path) -> None:
    size = ["--clips", "12", "--clip-s", "1", "--width", "64", "--height", "64", "--fps", "2", "--workers", "1"]
    root = str(tmp_path / "corpus")
    assert "jobs/preprocess.py --corpus" in run("--root", root, *size)
    assert (tmp_path / "corpus" / "split" / "train.txt").is_file()
    assert "already there" in run("--root", root, *size)
    with pytest.raises(SystemExit, match="another config"):
        run("--root", root, *size, "--seed", "5")
    assert "Drawn in" in run("--root", root, *size, "--seed", "5", "--overwrite")


def test_wrong_settings_are_a_sentence(run: Run) -> None:
    with pytest.raises(SystemExit, match="clips must be at least 12"):
        run("--clips", "3")
    with pytest.raises(SystemExit, match="must be a local folder"):
        run("--root", "s3://bucket/corpus")
    with pytest.raises(SystemExit, match="workers must not be negative"):
        run("--workers", "-1")


def test_other_layouts_and_tasks(run: Run, tmp_path: Path) -> None:
    size = ["--clips", "12", "--clip-s", "3", "--width", "64", "--height", "64", "--fps", "2", "--workers", "1"]
    printed = run("--root", str(tmp_path / "emi"), "--layout", "emi", *size)
    assert "with A/H" not in printed
    assert (tmp_path / "emi" / "train_split.csv").is_file()
    assert (tmp_path / "emi" / "raw" / "00001.mp4").is_file()
    with pytest.raises(SystemExit, match="clip_s must be between 8 and 600 seconds for task ah-frame"):
        run("--root", str(tmp_path / "frames"), "--task", "ah-frame", *size)
