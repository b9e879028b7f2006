"""A job that is stopped says so in a sentence, keeps what was finished, and goes on from there."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.results import tables

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
STOPPED = "Stopped. What was finished is kept. The same command goes on from there."
WAIT_S = 240


def stopped(home: Path, command: list[str], number: signal.Signals, finished: Callable[[], bool]) -> tuple[int, str]:
    """Starts a job with a Ray of its own, as in a terminal of its own, and stops it once something is finished."""
    environment = os.environ | {"TWOMINDS_HOME": str(home)}
    environment.pop("RAY_ADDRESS", None)
    log = home / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + WAIT_S
    while not finished():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"nothing was finished in {WAIT_S} s: {log.read_text()}"
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends it to everyone
    else:
        process.send_signal(number)
    process.wait(timeout=120)
    return process.returncode, log.read_text()


def test_preprocessing_and_training(ray_session: None, tiny_bundle: str, small_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "models")
    shutil.copytree(small_corpus, tmp_path / "corpus")
    features = tmp_path / "features"
    command = ["jobs/preprocess.py", "--recipe", "leya/demo", "--resources.block-size", "2"]
    code, said = stopped(tmp_path, command, signal.SIGINT, lambda: any(features.glob("*.parquet")))
    assert (code, said.splitlines()[-1]) == (130, STOPPED), said
    assert "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in features.glob("*.parquet")}
    finished = len(tables.read_rows(str(features)))
    config = PreprocessConfig(
        corpus=str(tmp_path / "corpus"),
        output=str(features),
        models=str(tmp_path / "models"),
        recipe="leya/demo",
    )
    facts = dict(preprocess(config).facts)
    assert (facts["there from before"], facts["features made now"]) == (str(finished), str(12 - finished))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    encoders = tmp_path / "encoders"
    command = ["jobs/train_encoders.py", "--views", "text", "scene"]
    code, said = stopped(tmp_path, command, signal.SIGTERM, lambda: (encoders / "text" / "card.json").exists())
    assert (code, said.splitlines()[-1]) == (143, STOPPED), said
    assert "Traceback" not in said
    assert not any((encoders / ".train").iterdir()), "checkpoints are left behind"


def test_a_search(tmp_path: Path, write_embeddings: Callable[..., None]) -> None:
    write_embeddings(str(tmp_path))
    command = ["jobs/tune_fusion.py", "--recipe", "leya/demo/fusion-concat", "--trials", "200", "--concurrency", "1"]
    over = tmp_path / "search"
    code, said = stopped(tmp_path, command, signal.SIGINT, lambda: any(over.glob("*/outcomes/*.json")))
    assert (code, said.splitlines()[-1]) == (130, STOPPED), said
    assert "Traceback" not in said
    assert not (tmp_path / "ensemble").exists() or not any((tmp_path / "ensemble").iterdir()), "the search is not over"
