"""Ray Serve for the tests of this folder, on a port of its own."""

import socket
from collections.abc import Iterator

import pytest
from ray import serve


@pytest.fixture(scope="module")
def serve_url(ray_session: None) -> Iterator[str]:
    """Where Serve listens; stopped before another test may stop the Ray below it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"encoding": "JSON"})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
