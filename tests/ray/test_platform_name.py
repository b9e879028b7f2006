"""`import platform` stays the standard library's under `ray job submit --working-dir .` and `serve run`.

The head is this test's own: own ports, own folder, in the foreground, so that ending its process ends all of it and
no other Ray on the machine is touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sysconfig.get_path("scripts"))
STANDARD_LIBRARY = str(Path(sysconfig.get_path("stdlib")) / "platform.py")
PROBE = """
import platform

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Probe:
    def __call__(self, request: object) -> str:
        return str(platform.__file__)


app = Probe.bind()
"""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head that runs in the repository root."""

    gcs: str
    dashboard: str
    env: Mapping[str, str]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different (held together until all are known)."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


@contextmanager
def running(
    command: list[str], env: Mapping[str, str], log: Path, stop: signal.Signals
) -> Generator[subprocess.Popen[bytes]]:
    """A process in the repository root; it alone is sent `stop` when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_text(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 120) -> str:
    """The body of the first 200 answer at `url`; fails with the process's output when it ends or is too late."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.get(url, timeout=10)
            if answer.status_code == 200:
                return answer.text
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"no answer at {url}:\n{log.read_text()}")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    gcs, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))  # short: the paths of Unix sockets are limited
    (folder / "platform_probe.py").write_text(PROBE)
    # Not the suite's own: RAY_* would join another cluster, COVERAGE_* would trace all of Ray's services.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "COVERAGE_"))}
    env |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": f".:{folder}"}
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"  # as in an activated environment: a job's `python` is looked up
    command = [
        str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=100000000",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1",
        f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}", f"--temp-dir={folder / 'ray'}",
    ]  # fmt: skip
    log = folder / "head.log"
    with running(command, env, log, signal.SIGTERM) as process:
        wait_for_text(f"http://127.0.0.1:{dashboard}/api/version", process, log)
        yield Head(gcs=f"127.0.0.1:{gcs}", dashboard=f"http://127.0.0.1:{dashboard}", env=env)
    shutil.rmtree(folder, ignore_errors=True)


def test_platform_is_the_standard_library_in_a_submitted_job(head: Head) -> None:
    line = "import platform; print('platform is', platform.__file__)"
    command = [str(BIN / "ray"), "job", "submit", "--address", head.dashboard, "--working-dir", "."]
    submitted = subprocess.run(
        [*command, "--", "python", "-c", line],
        cwd=ROOT,
        env=head.env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert f"platform is {STANDARD_LIBRARY}" in submitted.stdout


def test_platform_is_the_standard_library_in_a_served_application(head: Head, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = tmp_path / "probe.yaml"
    config.write_text(
        f"http_options: {{host: 127.0.0.1, port: {port}}}\n"
        "applications: [{name: probe, route_prefix: /, import_path: 'platform_probe:app'}]\n"
    )
    log = tmp_path / "serve.log"
    command = [str(BIN / "serve"), "run", "--address", head.gcs, str(config)]
    # SIGTERM would leave the application on the head, which then takes half a minute to end.
    with running(command, head.env, log, signal.SIGINT) as process:
        assert wait_for_text(f"http://127.0.0.1:{port}/", process, log) == STANDARD_LIBRARY
