"""How a job ends: with its summary, or with one sentence and an exit code that says what happened."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twominds.errors import ConfigError
from twominds.pipelines.job import in_sentences

SLEEPER = """
import sys, time
from twominds.pipelines.job import in_sentences
with in_sentences():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)
        time.sleep(float(sys.argv[1]))
"""
STOPPED = "Stopped. What was finished is kept. The same command goes on from there.\n"


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit code and what is printed."""
    with pytest.raises(SystemExit) as end, in_sentences():
        raise error
    return end.value.code, capsys.readouterr().err


def test_an_error_of_the_platform_is_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    message = "No corpus at /a/[b]. Give its place."
    assert ended(ConfigError(message), capsys) == (1, f"error: {message}\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/out/a.parquet"),
        OSError(errno.EROFS, "Read-only file system", "/out"),
        PermissionError("Access Denied"),
        ConnectionError("Could not connect to the endpoint URL"),
    ],
)
def test_what_a_disk_or_a_store_says_is_a_sentence(error: OSError, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(error, capsys)
    assert code == 1
    said = " ".join(said.split())
    assert said.startswith(f"error: {error.filename}: {error.strerror}. " if error.filename else f"error: {error}. ")
    assert said.endswith("What was finished is kept. Make room or see to it, and the same command goes on from there.")


def test_a_job_that_keeps_nothing_does_not_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    for error, sentence in (
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "error: /a: No space left on device. Make room or"),
        (KeyboardInterrupt(), "Stopped. The same command begins anew."),
    ):
        with pytest.raises(SystemExit), in_sentences(keeps=False):
            raise error
        said = " ".join(capsys.readouterr().err.split())
        assert said.startswith(sentence)
        assert said.endswith("he same command begins anew.")
        assert "kept" not in said


@pytest.mark.parametrize("mistake", [FileNotFoundError(2, "No such file", "x"), BrokenPipeError(), KeyError("x")])
def test_a_mistake_of_the_program_keeps_its_traceback(mistake: Exception) -> None:
    with pytest.raises(type(mistake)), in_sentences():
        raise mistake


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_job_that_is_stopped_tidies_up_and_says_so(number: signal.Signals, code: int) -> None:
    process = sleeper(0)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == "tidied up\n"
    assert err.endswith(STOPPED)
    assert "Traceback" not in err


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    process = sleeper(60)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "tidied up\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 20
    assert "Traceback" not in err


def sleeper(tidying_s: float) -> "subprocess.Popen[str]":
    """A job that waits, ready to be stopped."""
    command = [sys.executable, "-c", SLEEPER, str(tidying_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_signals_are_as_before_after_a_job() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with in_sentences():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
