"""What `serve run` says before it starts anything: the command itself, without a cluster."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
import yaml
from click.testing import CliRunner, Result
from ray import serve
from ray.serve import scripts
from ray.serve.config import RequestRouterConfig
from ray.serve.schema import ServeDeploySchema

from twominds.serving import preflight
from twominds.serving.app import ServeArgs

CONFIG = Path(__file__).parents[3] / "serve_configs" / "ah.yaml"


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No cluster on this machine, nothing in the workspace; and nothing may be started."""

    def no_cluster(**options: Any) -> None:
        raise ConnectionError

    def start(**options: Any) -> None:
        raise AssertionError("Serve was started")

    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path))
    monkeypatch.setattr(ray, "init", no_cluster)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("ray.serve.scripts._private_api.serve_start", start)
    preflight.check.cache_clear()
    yield
    preflight.check.cache_clear()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A cluster that runs: its workers' root, and what Serve says of itself."""
    there = SimpleNamespace(root=str(tmp_path), applications=dict[str, str](), proxies=dict[str, str]())

    def status() -> SimpleNamespace:
        applications = {name: SimpleNamespace(status=status) for name, status in there.applications.items()}
        return SimpleNamespace(applications=applications, proxies=there.proxies)

    class Remote:
        def __init__(self, **options: Any) -> None:
            """Takes what `ray.remote` takes."""

        def __call__(self, function: object) -> "Remote":
            return self

        def remote(self) -> str:
            return there.root

    def connect(**options: Any) -> None:
        pass

    def get(value: str) -> str:
        return value

    for name, stand_in in (("init", connect), ("shutdown", connect), ("remote", Remote), ("get", get)):
        monkeypatch.setattr(ray, name, stand_in)
    monkeypatch.setattr(serve, "status", status)
    return there


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """`ah.yaml` with a port that is free."""
    config = yaml.safe_load(CONFIG.read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config["http_options"]["port"] = free.getsockname()[1]
    path = tmp_path / "ah.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def serve_run(config: Path) -> Result:
    return CliRunner().invoke(scripts.cli, ["run", str(config)])


def check_ends(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    (sentence,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(result.output.splitlines()) == 2  # the other is Ray's: which file it runs
    for word in words:
        assert word in sentence


def test_without_an_ensemble(config: Path, tmp_path: Path) -> None:
    check_ends(serve_run(config), f"No ensemble at {tmp_path}/ensemble", "`python jobs/tune_fusion.py`")


def test_without_an_ensemble_beside_a_cluster(config: Path, cluster: SimpleNamespace, tmp_path: Path) -> None:
    check_ends(serve_run(config), f"No ensemble at {tmp_path}/ensemble")


def test_an_argument_that_is_wrong(config: Path) -> None:
    config.write_text(config.read_text().replace("timeout_s: 300", "timeout_s: -1"))
    check_ends(serve_run(config), "timeout_s", "greater than 0")


def test_a_cluster_with_another_home(config: Path, cluster: SimpleNamespace, tmp_path: Path) -> None:
    cluster.root = "/of/the/demo"
    check_ends(serve_run(config), str(tmp_path), "/of/the/demo", "TWOMINDS_HOME", "`ray stop`")


@pytest.mark.parametrize("status", ["DEPLOYING", "RUNNING", "UNHEALTHY"])
def test_a_service_that_runs_already(config: Path, cluster: SimpleNamespace, status: str) -> None:
    cluster.applications["ah"] = status
    check_ends(serve_run(config), "runs on this cluster already", "Ctrl-C", "`serve shutdown -y`")


def test_what_a_failed_start_left_behind_is_no_hindrance(config: Path, cluster: SimpleNamespace) -> None:
    cluster.applications["ah"] = "DEPLOY_FAILED"
    check_ends(serve_run(config), "No ensemble")


def test_a_port_that_is_taken(config: Path, cluster: SimpleNamespace) -> None:
    port = yaml.safe_load(config.read_text())["http_options"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        check_ends(serve_run(config), f"Port {port} is taken")
        cluster.proxies["node"] = "HEALTHY"  # Serve's own, of an application that has ended
        preflight.check.cache_clear()
        check_ends(serve_run(config), "No ensemble")


def test_nothing_is_checked_anywhere_else() -> None:
    """Ray's processes look it up too, and so does whoever reads the file."""
    assert preflight.Router is cast(type, RequestRouterConfig().get_request_router_class())
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text())).applications
    assert application.deployments


def test_it_says_when_clips_can_be_scored(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503 if asked == ["/healthz"] else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"artifact_id": "3f2a9c51b7d0", "weights": "debug"}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setattr(preflight, "LOOK_AGAIN_S", 0.01)
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_port}"
        preflight.announce(url, ServeArgs(ensemble="/x/ensemble"))
        service.shutdown()
    assert asked == ["/healthz", "/healthz", "/v1/model"]
    printed = capsys.readouterr().out
    assert f"Ready: curl -F video=@clip.mp4 {url}/v1/score" in printed
    assert "3f2a9c51b7d0 (debug weights) of /x/ensemble" in printed
