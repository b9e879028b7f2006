"""Every job explains itself, and what the README has people type is what the jobs take."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

ROOT = Path(__file__).resolve().parents[3]
JOBS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "jobs").glob("*.py"))
README = (ROOT / "README.md").read_text()
PAGES = [README, *(page.read_text() for page in (ROOT / "platform").rglob("README.md"))]
COMMANDS = re.findall(r"^(?:ray job submit -- )?python (jobs/\w+\.py[^#\n]*)", "\n".join(PAGES), re.MULTILINE)


class ParsedError(Exception):
    """Ends a job after its command line was taken."""


def parse(monkeypatch: pytest.MonkeyPatch, command: str) -> Any:
    """Runs a job up to the point where it has its config, and returns that."""
    real, found = tyro.cli, list[Any]()

    def cli(*args: Any, **kwargs: Any) -> Any:
        found.append(real(*args, **kwargs))
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", cli)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / shlex.split(command)[0]), run_name="__main__")
    return found[0]


@pytest.mark.parametrize("job", JOBS)
def test_help_describes_every_option(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / job), run_name="__main__")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert job.split("/")[1] in text
    assert len(text.splitlines()) > 8


def test_the_readme_names_every_job() -> None:
    assert {job for job in JOBS if f"`{job}`" not in README} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_are_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--help" not in command:
        assert parse(monkeypatch, command) is not None


def test_there_are_commands_in_the_readme() -> None:
    assert len(COMMANDS) >= 8


def test_defaults_are_the_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path))
    assert parse(monkeypatch, "jobs/tune_fusion.py").ensemble == str(tmp_path / "ensemble")
    monkeypatch.undo()
    monkeypatch.setenv("TWOMINDS_HOME", "s3://bucket/prefix/")
    assert parse(monkeypatch, "jobs/embed.py").output == "s3://bucket/prefix/embeddings"
