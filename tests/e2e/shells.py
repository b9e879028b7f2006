"""Commands of a page as a person types them, and what they have started."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def has_mark(pid: int, mark: str) -> bool:
    """Whether a process has the mark in its environment."""
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def bash(script: str, environment: dict[str, str], folder: Path = ROOT, timeout_s: float = 500) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def here(command: str) -> str:
    """A command of the repository root, for another folder."""
    return command.replace("python jobs/", f"{shlex.quote(sys.executable)} {ROOT}/jobs/")
