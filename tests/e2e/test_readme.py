"""What the README has people type after the demo is typed here, word for word."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import ray

from twominds import artifacts

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```\w+\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PORTS = (6379, 8000, 8265)


def block(line: str) -> str:
    """The README's only code block that has `line`."""
    (found,) = [text for text in BLOCKS if line in text.splitlines()]
    return found


@pytest.fixture
def shell(finished: "Finished") -> Iterator[dict[str, str]]:
    """An environment for commands; what they start is found by a mark in it, and ended."""
    if ray.is_initialized():
        ray.shutdown()
    if busy := [port for port in PORTS if socket.socket().connect_ex(("127.0.0.1", port)) == 0]:
        pytest.skip(f"ports {busy} are taken: another head or service runs on this machine")
    mark = uuid.uuid4().hex
    environment = os.environ | {"TWOMINDS_HOME": finished.workspace.root, "TWOMINDS_README": mark}
    environment.pop("RAY_ADDRESS", None)
    yield environment
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            continue


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


def test_head_job_service_and_curl(finished: "Finished", shell: dict[str, str], tmp_path: Path) -> None:
    text = block("ray start --head --dashboard-host=127.0.0.1")
    setup, service = text.split("serve run", 1)
    if not (ROOT / ".venv").exists():
        setup = setup.replace("source .venv/bin/activate\n", "")
    before = artifacts.read_card(finished.workspace.ensemble).created
    started, job = setup.split("ray job submit")
    bash(started, shell)
    exports = "\n".join(line for line in started.splitlines() if line.startswith(("source", "export")))
    printed = submit(f"{exports}\nray job submit{job}", shell)
    assert "Stability search of leya/demo" in printed
    assert artifacts.read_card(finished.workspace.ensemble).created != before, "the job saved no ensemble"
    # The same job from a shell in another folder, with the checkout uploaded.
    other = f"{exports.replace('source .venv', f'source {ROOT}/.venv')}\ncd {ROOT}\n"
    printed = submit(f"{other}ray job submit --working-dir . -- python jobs/tune_fusion.py", shell, folder=tmp_path)
    assert "Stability search of leya/demo" in printed
    serving = subprocess.Popen(
        ["bash", "-c", f"{exports}\nexec serve run{service}"],
        cwd=ROOT,
        env=shell,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_it_scores(serving)
        clip = next(clip for clip in finished.clips() if clip.clip_id not in finished.quarantined() and clip.transcript)
        shutil.copy(clip.video_uri, tmp_path / "interview.mp4")
        for command in block("curl -F video=@interview.mp4 http://localhost:8000/v1/score").splitlines():
            answer = json.loads(bash(command.replace("curl", "curl -sS"), shell, folder=tmp_path).splitlines()[-1])
            assert 0 <= answer["probability"] <= 1
            assert answer["weights"] == "debug"
            assert answer["artifact_id"] == artifacts.read_card(finished.workspace.ensemble).artifact_id
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(timeout=60)


def submit(command: str, environment: dict[str, str], folder: Path = ROOT) -> str:
    """A job, tried again while the head does not take any yet: that is some seconds after `ray start` returns."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return bash(command, environment, folder)
        except AssertionError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)


def wait_until_it_scores(serving: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert serving.poll() is None, "serve run ended"
        try:
            if httpx.get("http://localhost:8000/healthz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError("the service does not get ready")
