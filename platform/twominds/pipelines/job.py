"""The command line of a job: options from its config, a summary at its end, and a sentence where it ends otherwise."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import tyro
from rich.console import Console
from rich.markup import escape

from twominds.errors import TwomindsError
from twominds.reports.summary import Summary
from twominds.workspace import described_root

ConfigT = TypeVar("ConfigT")

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what `ray job stop` and Kubernetes send."""
_OF_STORAGE = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ESTALE")
}
"""What a disk says of itself, and no mistake of the program makes it say."""


def run(job: Callable[[ConfigT], Summary], config: type[ConfigT]) -> None:
    """Parses the command line into `config`, runs the job and prints its summary; other ends as in `in_sentences`.

    The first line says where results are kept by default: a job that was submitted has the cluster's environment.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    parsed = tyro.cli(config, config=(tyro.conf.EnumChoicesFromValues,))  # `--views text`, as everywhere else
    Console().print(f"home: {described_root()}", markup=False, highlight=False, soft_wrap=True)
    with in_sentences():
        job(parsed).show()


@contextmanager
def in_sentences(*, keeps: bool = True) -> Generator[None]:
    """Ends the process with a sentence instead of a traceback where the user's doing ends it.

    Exits with 1 after an error of the platform or of a disk or store, with 130 after Ctrl-C, with 143 after SIGTERM.
    What is a mistake of the program keeps its traceback.

    Args:
        keeps: Whether what was finished is found again by the same command; else that begins anew.
    """
    kept = "What was finished is kept. " if keeps else ""
    again = "goes on from there" if keeps else "begins anew"
    # Who started the job in the background of a script has Ctrl-C ignored, and wants that.
    before = {stop: handler for stop in STOPS if (handler := signal.getsignal(stop)) != signal.SIG_IGN}
    for stop in before:
        signal.signal(stop, _stop)
    try:
        yield
    except TwomindsError as error:
        _end(f"[red]error:[/red] {escape(str(error))}", 1)
    except OSError as error:
        cause = getattr(error, "cause", error)  # what happened in a task of Ray comes wrapped
        if not _of_storage(cause):
            raise
        reason = f"{cause.filename}: {cause.strerror}" if cause.filename else str(cause)
        hint = f"{kept}Make room or see to it, and the same command {again}."
        _end(f"[red]error:[/red] {escape(reason)}. {hint}", 1)
    except KeyboardInterrupt as stopped:
        number = next(iter(stopped.args), signal.SIGINT)
        _end(f"Stopped. {kept}The same command {again}.", 128 + number)
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def _stop(number: int, _: FrameType | None) -> None:
    for stop in STOPS:
        signal.signal(stop, _end_at_once)
    os.write(2, b"\nStopping, which takes some seconds; once more ends it at once.\n")
    raise KeyboardInterrupt(number)


def _end_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


def _of_storage(error: OSError) -> bool:
    if isinstance(error, BrokenPipeError):  # `| head` on the command line
        return False
    return isinstance(error, ConnectionError | PermissionError) or error.errno in _OF_STORAGE


def _end(sentence: str, code: int) -> None:
    Console(stderr=True).print(sentence, highlight=False, soft_wrap=True)
    sys.exit(code)
