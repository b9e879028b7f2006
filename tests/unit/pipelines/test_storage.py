"""Files on an S3 server (moto's) as they are now, and a server that is away."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import boto3
import pytest
from moto.server import ThreadedMotoServer
from upath import UPath

from twominds.pipelines.storage import files_in, read_if_there, write_whole


@pytest.fixture
def server(
    s3_server: Callable[[], AbstractContextManager[ThreadedMotoServer]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadedMotoServer]:
    """With one bucket, `runs`."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server() as server:
        boto3.client("s3").create_bucket(Bucket="runs")
        yield server


def test_what_another_process_wrote_is_seen(server: ThreadedMotoServer) -> None:
    folder = UPath("s3://runs/search/outcomes")
    write_whole(folder / "a.json", b"1")
    assert [path.name for path in files_in(str(folder), "*.json")] == ["a.json"]
    boto3.client("s3").put_object(Bucket="runs", Key="search/outcomes/b.json", Body=b"2")
    assert read_if_there(folder / "b.json") == b"2"
    assert [path.name for path in files_in(str(folder), "*.json")] == ["a.json", "b.json"]
    assert read_if_there(folder / "c.json") is None


def test_a_server_that_is_away_is_an_error_of_the_system(server: ThreadedMotoServer) -> None:
    path = UPath("s3://runs/search/a.json")
    write_whole(path, b"1")
    server.stop()
    with pytest.raises(OSError, match="Could not connect"):
        read_if_there(path)
    with pytest.raises(OSError, match="Could not connect"):
        write_whole(path, b"2")
    with pytest.raises(OSError, match="Could not connect"):
        files_in("s3://runs/search", "*.json")
