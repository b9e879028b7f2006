"""Files that are there whole or not at all: of several writers, of one that dies, and on an S3 server (moto's)."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

import boto3
import pytest
from moto.server import ThreadedMotoServer
from upath import UPath

from twominds.errors import ConfigError
from twominds.storage import files_in, read_if_there, require_writable, write_whole


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


SIZE = 1 << 20


def test_of_two_writers_at_once_one_is_kept_whole(tmp_path: Path) -> None:
    target, stop = tmp_path / "made on the way" / "result.bin", Event()
    write_whole(target, bytes(SIZE))
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(target.read_bytes())

    with ThreadPoolExecutor(9) as threads:
        reader = threads.submit(read)
        writers = [threads.submit(write_whole, target, bytes([number]) * SIZE) for number in range(8) for _ in range(5)]
        for writer in writers:
            writer.result()
        stop.set()
        reader.result()
    assert len(set(target.read_bytes())) == 1
    assert {(len(content), len(set(content))) for content in seen} == {(SIZE, 1)}
    assert [path.name for path in target.parent.iterdir()] == ["result.bin"]


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.bin"
    write_whole(target, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(target, b"new")
    with pytest.raises(FileNotFoundError):
        write_whole(target, tmp_path / "there is no such file")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.bin"]


DIES = """
import os, sys
from pathlib import Path
from twominds.storage import write_whole
os.fsync = lambda handle: os._exit(9)
write_whole(Path(sys.argv[1]), b"new")
"""


def test_a_process_that_dies_in_mid_writing_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "result.bin"
    write_whole(target, b"old")
    assert subprocess.run([sys.executable, "-c", DIES, str(target)], check=False).returncode == 9
    assert target.read_bytes() == b"old"
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folders_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure cannot be staged here; the order of the calls that outlast one can be looked at."""
    target, synced = tmp_path / "a" / "b" / "result.bin", list[tuple[str, bool]]()
    sync = os.fsync

    def noted(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append(("partial" if path.suffix == ".partial" else path.name, target.exists()))
        sync(handle)

    monkeypatch.setattr("os.fsync", noted)
    write_whole(target, b"new")
    assert synced == [("a", False), (tmp_path.name, False), ("partial", False), ("b", True)]


def test_a_file_of_the_disk_goes_to_an_object_store_too(server: ThreadedMotoServer, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"from a file")
    write_whole(UPath("s3://runs/models/large"), tmp_path / "large")
    assert boto3.client("s3").get_object(Bucket="runs", Key="models/large")["Body"].read() == b"from a file"


def test_a_place_that_cannot_be_written_is_found_out_before_any_work(tmp_path: Path) -> None:
    require_writable(str(tmp_path / "new" / "folder"))
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "folder"], "no probe is left behind"
    (tmp_path / "file").write_text("in the way")
    for place in ("file", "file/results"):
        with pytest.raises(ConfigError, match=r"kept at .*: a file is where a folder should be\."):
            require_writable(str(tmp_path / place))
    with pytest.raises(ConfigError, match="Nothing can be kept at nosuch://bucket"):
        require_writable("nosuch://bucket/results")


def test_a_full_disk_leaves_nothing_of_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        require_writable(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
