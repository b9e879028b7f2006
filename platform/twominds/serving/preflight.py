"""What `serve run` is told before it starts anything, and what it says when the service answers.

By itself `serve run` has the cluster build the application, and waits for ever whatever comes of it. The one thing of
ours that it looks up in its own process, and before it connects, is the request router of a deployment: a config file
that names `twominds.serving.preflight.Router` is checked at that moment. What it gets is Ray's usual router.
"""

import functools
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, cast

import click
import httpx
import ray
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.schema import ApplicationStatus, HTTPOptionsSchema

from twominds.errors import ConfigError, TwomindsError
from twominds.serving.app import ServeArgs, build
from twominds.workspace import check_same_root, fixed_root

RUNNING = (ApplicationStatus.DEPLOYING, ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY)
LOOK_AGAIN_S = 1.0


def __getattr__(name: str) -> type:
    """`Router`, once all has been checked that can be."""
    if name != "Router":
        raise AttributeError(name)
    command = click.get_current_context(silent=True)
    # Ray's other processes look it up too, and this one does so again when it has connected.
    if command and command.info_name == "run" and not ray.is_initialized():
        check(command.params["config_or_import_path"], command.params["address"])
    return cast(type, RequestRouterConfig().get_request_router_class())


@functools.cache  # it is looked up more than once
def check(config_file: str, address: str | None = None) -> None:
    """Ends `serve run` where there is nothing to serve, or a service already; else says when and where it answers.

    Args:
        config_file: One of `serve_configs/`.
        address: The cluster; by default one that runs on this machine, if there is one.

    Raises:
        ClickException: the sentence that the command ends with; its exit status is then 1.
    """
    config: dict[str, Any] = yaml.safe_load(Path(config_file).read_text())
    http = HTTPOptionsSchema.model_validate(config.get("http_options", {}))
    try:
        _check_cluster(address, http)
        for application in config["applications"]:
            args = ServeArgs.model_validate(application.get("args", {}))
            build(args)
            threading.Thread(target=announce, args=(f"http://{http.host}:{http.port}", args), daemon=True).start()
    except TwomindsError as error:
        raise click.ClickException(str(error)) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise click.ClickException(f"The args in {config_file} are wrong: {wrong}.") from error


def _check_cluster(address: str | None, http: HTTPOptionsSchema) -> None:
    """That the cluster has this process's home, and nothing runs where the service is to answer."""
    try:
        ray.init(address=address or "auto", namespace="serve", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        proxies = False  # `serve run` starts a cluster, in this environment
    else:
        try:
            check_same_root(ray.get(ray.remote(num_cpus=0)(fixed_root).remote()))
            status = serve.status()
        finally:
            ray.shutdown()
        proxies = bool(status.proxies)
        if any(application.status in RUNNING for application in status.applications.values()):
            raise ConfigError(
                "A service runs on this cluster already. A second `serve run` would change nothing of it, and its "
                "Ctrl-C would end it. To serve anew, end the first: Ctrl-C where it runs, or `serve shutdown -y`."
            )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if not proxies:
                probe.bind((http.host, http.port))
        except OSError as error:
            raise ConfigError(
                f"Port {http.port} is taken by another program. End that, or change `port` in the config file."
            ) from error


def announce(url: str, args: ServeArgs) -> None:
    """Waits until clips can be scored at `url`, and says so."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        while True:
            try:
                if client.get("/healthz").is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(LOOK_AGAIN_S)
        model = client.get("/v1/model").json()
    click.secho(
        f"\nReady: curl -F video=@clip.mp4 {url}/v1/score\nIt answers until Ctrl-C, with the ensemble "
        f"{model['artifact_id']} ({model['weights']} weights) of {args.ensemble}.\n",
        bold=True,
    )
