"""The command line of a job: options from its config, a summary at its end, errors as sentences."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro
from rich.console import Console

from twominds.errors import TwomindsError
from twominds.pipelines.summary import Summary
from twominds.workspace import described_root

ConfigT = TypeVar("ConfigT")


def run(job: Callable[[ConfigT], Summary], config: type[ConfigT]) -> None:
    """Parses the command line into `config`, runs the job and prints its summary; exits 1 with a sentence on error.

    The first line says where results are kept by default: a job that was submitted has the cluster's environment.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    parsed = tyro.cli(config, config=(tyro.conf.EnumChoicesFromValues,))  # `--modalities text`, as everywhere else
    Console().print(f"home: {described_root()}", highlight=False, soft_wrap=True)
    try:
        job(parsed).show()
    except TwomindsError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
