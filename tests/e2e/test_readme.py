"""What the README and the pages that it points to have people type is typed here, word for word."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import httpx
import psutil
import pyarrow.parquet as pq
import pytest
import ray
import tyro
from tests.e2e.shells import ROOT, bash, has_mark, here

from twominds import artifacts
from twominds.backbones import BACKBONES
from twominds.corpus.manifest import read_corpus
from twominds.pipelines.embed import EmbedConfig
from twominds.pipelines.evaluate import EvaluateConfig
from twominds.pipelines.preprocess import PreprocessConfig
from twominds.pipelines.train import TrainConfig
from twominds.recipes.catalog import find_study
from twominds.recipes.leya import leya
from twominds.recipes.space import Choice, LogUniform
from twominds.records import Split
from twominds.search.config import SearchConfig

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

PAGES = (
    "README.md",
    "platform/twominds/recipes/README.md",
    "platform/twominds/recipes/HSEMOTION.md",
    "platform/twominds/search/README.md",
)
BLOCKS = re.findall(
    r"^```\w+\n(.*?)^```$", "\n".join((ROOT / page).read_text() for page in PAGES), re.MULTILINE | re.DOTALL
)
MAKE = "make demo    # from nothing to a score over HTTP"
PYTHON = "from twominds.scoring.scorer import Scorer"
TABLE = "video,split,label,participant,transcript"
OWN = "python jobs/preprocess.py --corpus clips.csv --detector yunet"
HEAD = "ray start --head --dashboard-host=127.0.0.1"
CURL = "curl -F video=@interview.mp4 http://localhost:8000/v1/score"
PLAN = "python jobs/tune_fusion.py --dry-run"
SPACE = "python jobs/tune_fusion.py --dry-run --space num_layers=1,2 optimizer=adamw learning_rate=1e-4..1e-3"
DECISION = "python jobs/tune_fusion.py --decision.calibration temperature --decision.coverage 0.8"
SCORE = "python jobs/score.py --videos path/to/videos --output runs/scores"
MOMENTS = "python jobs/preprocess.py --recipe simple/ah-frame"
BAH = "python jobs/preprocess.py --corpus /data/BAH --models models --output bah/features"
STUDY = (
    "python jobs/evaluate.py --recipe leya/all --study.corpus /data/BAH --study.models models --study.folder bah/study "
    "--output bah/report"
)
TABLES = "python jobs/evaluate.py --recipe hsemotion/demo/expr/all"
REAL_TABLES = "python jobs/evaluate.py --recipe hsemotion/expr/all --study.corpus /data/AffWild2 --study.models models"
ROW = "python jobs/preprocess.py --recipe hsemotion/ah-frame/roberta-mfn-blend --corpus /data/BAH"
BAH_JOBS: dict[str, Any] = {
    "jobs/preprocess.py": PreprocessConfig,
    "jobs/train_encoders.py": TrainConfig,
    "jobs/embed.py": EmbedConfig,
    "jobs/tune_fusion.py": SearchConfig,
    "jobs/evaluate.py": EvaluateConfig,
}
FOLDERS = ("models", "features", "encoders", "embeddings", "ensemble")
"""Where jobs read, by the names of their flags."""
PORTS = (6379, 8000, 8265)
LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
STANDARD_LIBRARY = str(Path(sysconfig.get_path("stdlib")) / "platform.py")
PROBE = (
    "import platform; from ray import serve; print('platform of the job is', platform.__file__); "
    "app = serve.deployment(name='probe', ray_actor_options={'num_cpus': 0})(lambda _: platform.__file__).bind(); "
    "served = serve.run(app, name='probe', route_prefix='/probe').remote(0).result(); serve.delete('probe'); "
    "print('platform of the service is', served)"
)
"""A job's source: what `import platform` finds in itself, and in an application that it serves."""


def block(line: str) -> str:
    """The README's only code block that has `line`."""
    (found,) = [text for text in BLOCKS if line in text.splitlines()]
    return found


@pytest.fixture
def ports() -> None:
    """Those of a head and a service, which the README's commands take as they are."""
    if busy := [port for port in PORTS if socket.socket().connect_ex(("127.0.0.1", port)) == 0]:
        pytest.skip(f"ports {busy} are taken: another head or service runs on this machine")


@pytest.fixture
def shell(finished: "Finished", ray_address: str) -> Iterator[dict[str, str]]:
    """An environment for commands; what they start is found by a mark in it, and ended."""
    ray.shutdown()
    mark = uuid.uuid4().hex
    environment = os.environ | {"TWOMINDS_HOME": finished.workspace.root, "TWOMINDS_README": mark}
    environment.pop("RAY_ADDRESS", None)
    yield environment
    for process in psutil.process_iter():
        if has_mark(process.pid, mark):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    ray.init(address=ray_address, log_to_driver=False)


def test_head_job_service_and_curl(finished: "Finished", ports: None, shell: dict[str, str], tmp_path: Path) -> None:
    text = block(HEAD)
    setup, service = text.split("serve run", 1)
    if not (ROOT / ".venv").exists():
        setup = setup.replace("source .venv/bin/activate\n", "")
    before = artifacts.read_card(finished.workspace.ensemble).created
    started, job = setup.split("ray job submit")
    shell = shell | {"HOME": str(tmp_path)}  # there is no token there yet
    bash(started, shell)
    shell["RAY_ADDRESS"] = "127.0.0.1:6379"  # else the newest head, which may be one of other tests
    exports = "\n".join(line for line in started.splitlines() if line.startswith(("source", "export")))
    printed = submit(f"{exports}\nray job submit{job}", shell)
    assert "Stability search of leya/demo" in printed
    assert artifacts.read_card(finished.workspace.ensemble).created != before, "the job saved no ensemble"
    # The same job from a shell in another folder, with the checkout uploaded.
    other = f"{exports.replace('source .venv', f'source {ROOT}/.venv')}\ncd {ROOT}\n"
    printed = submit(f"{other}ray job submit --working-dir . -- python jobs/tune_fusion.py", shell, folder=tmp_path)
    assert "Stability search of leya/demo" in printed
    terminal = tmp_path / "terminal"
    with terminal.open("w") as lines:
        serving = subprocess.Popen(
            ["bash", "-c", f"{exports}\nexec serve run{service}"],
            cwd=ROOT,
            env=shell,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )
    try:
        wait_until_it_scores(serving)
        check_ports(shell["TWOMINDS_README"])
        clip = next(clip for clip in finished.clips() if clip.clip_id not in finished.quarantined() and clip.transcript)
        shutil.copy(clip.video_uri, tmp_path / "interview.mp4")
        for command in block(CURL).splitlines():
            answer = json.loads(bash(command.replace("curl", "curl -sS"), shell, folder=tmp_path).splitlines()[-1])
            assert 0 <= answer["probability"] <= 1
            assert answer["weights"] == "debug"
            assert answer["artifact_id"] == artifacts.read_card(finished.workspace.ensemble).artifact_id
        assert f"Ready: {CURL.replace('interview', 'clip').replace('localhost', '127.0.0.1')}" in terminal.read_text()
        assert finished.workspace.ensemble in terminal.read_text()
        with pytest.raises(AssertionError, match="A service runs on this cluster already"):
            bash(f"{exports}\nserve run{service}", shell)
        # The folder platform/ hides nothing.
        printed = submit(f"{exports}\nray job submit --working-dir . -- python -c {shlex.quote(PROBE)}", shell)
        assert f"platform of the job is {STANDARD_LIBRARY}" in printed
        assert f"platform of the service is {STANDARD_LIBRARY}" in printed
    finally:
        serving.send_signal(signal.SIGINT)
        serving.wait(timeout=60)


def check_ports(mark: str) -> None:
    """No port of what carries the mark answers from outside but with the wish for a token; a job needs one anyway."""
    listening: dict[int, set[str]] = {}
    for process in (process for process in psutil.process_iter() if has_mark(process.pid, mark)):
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    listening.setdefault(connection.laddr.port, set()).add(connection.laddr.ip)
    assert set(listening) >= set(PORTS)
    cards = [address for addresses in psutil.net_if_addrs().values() for address in addresses]
    for card in (card.address for card in cards if card.family == socket.AF_INET and card.address not in LOOPBACK):
        for port, addresses in listening.items():
            with socket.socket() as outside:
                answers = outside.connect_ex((card, port)) == 0
            assert answers == (not addresses <= LOOPBACK)
            if answers:
                assert refusal(f"{card}:{port}") == grpc.StatusCode.UNAUTHENTICATED
    submitted = httpx.post("http://127.0.0.1:8265/api/jobs/", json={"entrypoint": "true"})
    assert submitted.status_code == 401


def refusal(address: str) -> grpc.StatusCode:
    """How a server answers a call without a token: one that would have its bytes unpickled by a replica of Serve."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=20)
    return cast(grpc.Call, error.value).code()


def test_jobs_of_a_local_workspace(finished: "Finished", shell: dict[str, str], tmp_path: Path) -> None:
    """Help, a plan, another decision, a folder of videos to the CSV."""
    mine = tmp_path / "mine"
    shutil.copytree(finished.workspace.root, mine)  # the ensemble is about to be written anew
    (tmp_path / "path" / "to" / "videos").mkdir(parents=True)
    clips = [clip for clip in finished.clips() if clip.clip_id not in finished.quarantined()][:2]
    for clip in clips:
        shutil.copy(clip.video_uri, tmp_path / "path" / "to" / "videos")
    environment = shell | {"TWOMINDS_HOME": str(mine)}
    assert "--decision.calibration" in bash(here("python jobs/tune_fusion.py --help"), environment, tmp_path)
    over = len(list((mine / "search").glob("*/outcomes/*.json")))  # the job of the head's test went on with the search
    trials = f" --trials {over}"
    plan = bash(here(block(PLAN)).rstrip() + trials, environment, tmp_path)
    assert f"{over}, {over} are over, 0 begun, 0 left" in plan
    plain = artifacts.read_card(str(mine / "ensemble"))
    bash(here(block(DECISION)).rstrip() + trials, environment, tmp_path)  # the copied search is the same, and over
    fitted = artifacts.read_card(str(mine / "ensemble"))
    assert plain.config["decision"]["steps"] == []
    assert {step["kind"]: step for step in fitted.config["decision"]["steps"]}["abstain"]["band"] > 0
    bash(here(block(SCORE)), environment, tmp_path)
    rows = list(csv.DictReader((tmp_path / "runs" / "scores" / "scores.csv").open()))
    assert len(rows) == len(clips)


def test_each_job_for_bah_finds_what_the_ones_before_it_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands are read by the jobs' own parsers; what one reads, another has written or the user has brought."""
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path / "nobody made this"))
    there = {"/data/BAH"}
    for line in block(BAH).splitlines():
        program, script, *flags = shlex.split(line, comments=True)
        assert (program, (ROOT / script).is_file()) == ("python", True)
        if script == "jobs/fetch_models.py":
            assert flags[:2] == ["--models", "models"]
            assert all(pair.partition("=")[0] in BACKBONES for pair in flags[3:])
            there.add("models")
            continue
        config = tyro.cli(BAH_JOBS[script], args=flags)
        written = {"output"} | ({"ensemble"} if isinstance(config, SearchConfig | TrainConfig) else set[str]())
        places = {name: getattr(config, name) for name in ("corpus", *FOLDERS, "output") if hasattr(config, name)}
        for name, place in places.items():
            assert name in written or place in there, f"{script}: nobody made {name} at {place}"
        there |= {places[name] for name in written}
    assert "bah/report" in there


def test_python_scores_a_clip_without_ray(finished: "Finished", shell: dict[str, str], tmp_path: Path) -> None:
    clip = next(clip for clip in finished.clips() if clip.clip_id not in finished.quarantined())
    shutil.copy(clip.video_uri, tmp_path / "interview.mp4")
    (tmp_path / "runs").symlink_to(finished.workspace.root)
    unarmed = "import sys; sys.modules['ray'] = None\n"  # whoever imports it fails
    (tmp_path / "score.py").write_text(unarmed + block(PYTHON))
    assert "Score(clip_id='1'" in bash(f"{shlex.quote(sys.executable)} score.py", shell, tmp_path)


def test_the_table_for_own_videos_is_read_and_each_job_finds_what_the_ones_before_it_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(block(TABLE))
    (tmp_path / "visits").mkdir()
    for name in ("anna_1.mp4", "ben_1.mp4"):
        (tmp_path / "visits" / name).touch()
    corpus = read_corpus(str(table))
    said = [(clip.split, clip.label, clip.participant_id, clip.transcript) for clip in corpus.clips]
    assert said == [(Split.TRAIN, 1, "anna", "I want to, but then again"), (Split.VALIDATION, 0, "ben", None)]
    home, *commands = block(OWN).splitlines()
    assert home == "export TWOMINDS_HOME=$PWD/mine"
    monkeypatch.setenv("TWOMINDS_HOME", str(tmp_path / "mine"))
    there = {"clips.csv", f"{tmp_path}/mine/models"}  # the first job fills the bundle
    scripts = [shlex.split(line, comments=True)[1:] for line in commands]
    assert scripts[0] == ["jobs/fetch_models.py"]
    for script, *flags in scripts[1:]:
        config = tyro.cli(BAH_JOBS[script], args=flags)
        written = {"output"} | ({"ensemble"} if isinstance(config, SearchConfig | TrainConfig) else set[str]())
        places = {name: getattr(config, name) for name in ("corpus", *FOLDERS, "output") if hasattr(config, name)}
        missing = {name for name, place in places.items() if name not in written and place not in there}
        assert not missing, f"{script}: nobody made its {missing}"
        there |= {places[name] for name in written}
    assert f"{tmp_path}/mine/report" in there


def drawn_report(commands: list[str], finished: "Finished", shell: dict[str, str], folder: Path) -> dict[str, Any]:
    """What commands of a page come to; but for the bundle, which is there, and a smaller corpus."""
    home, drawing, models, *jobs = commands
    place = folder / home.removeprefix("export TWOMINDS_HOME=$PWD/")
    assert models == "python jobs/make_debug_models.py"
    place.mkdir()
    (place / "models").symlink_to(finished.workspace.models)
    drawn = re.sub(r"--clips \d+", "--clips 16 --clean --width 240 --height 180 --fps 10", drawing)
    assert drawn != drawing
    bash("\n".join(["set -e", home, *(here(command) for command in (drawn, *jobs))]), shell, folder)
    return cast("dict[str, Any]", json.loads((place / "report" / "results.json").read_text()))


def test_moments_go_from_files_to_a_report(finished: "Finished", shell: dict[str, str], tmp_path: Path) -> None:
    *commands, serving = block(MOMENTS).splitlines()
    assert serving == "serve run serve_configs/ah.yaml", "its answers are those of tests/unit/serving/test_answers.py"
    report = drawn_report(commands, finished, shell, tmp_path)
    assert report["metric"] == "weighted_f1"
    rows = {row["recipe"]: row["splits"]["test"]["score"]["value"] for row in report["rows"]}
    assert rows["majority"] < rows["ensemble"], "A/H is planted in face and voice"


def test_a_table_of_hsemotion_goes_from_files_to_a_report(
    finished: "Finished", shell: dict[str, str], tmp_path: Path
) -> None:
    report = drawn_report(block(TABLES).splitlines(), finished, shell, tmp_path)
    rows = {row["recipe"]: row["splits"]["val"]["score"]["value"] for row in report["rows"]}
    assert [*rows] == ["majority", *(recipe.name for recipe in find_study("hsemotion/demo/expr/all"))]
    assert max(rows.values()) > rows["majority"] + 0.05, "expressions are planted in the face"
    best = f"expressions/report/headline --models {finished.workspace.models}"
    bash(
        here(f"python jobs/score.py --videos expressions/corpus/videos --output scores --ensemble {best}"),
        shell,
        tmp_path,
    )
    assert pq.read_table(tmp_path / "scores" / "timeline" / "points.parquet").num_rows > 16 * 50


def test_the_commands_of_the_papers_table_are_read(tmp_path: Path) -> None:
    """Each names recipes that there are; the second finds the parts of the first (what they do: test_study.py)."""
    configs = [tyro.cli(EvaluateConfig, args=shlex.split(line)[2:]) for line in block(STUDY).splitlines()]
    found = [[recipe.name for name in config.recipe.split(",") for recipe in find_study(name)] for config in configs]
    assert len(found[0]) == 24
    assert set(found[1]) < set(found[0])
    assert configs[0].study == configs[1].study
    assert configs[1].push_to == "bah/pushed"


def test_the_words_of_another_space_are_read() -> None:
    """What a search makes of such words: `tests/ray/pipelines/search/test_starts.py`."""
    (line,) = block(SPACE).splitlines()
    config = tyro.cli(SearchConfig, args=shlex.split(line)[2:])
    fusion = leya().fusion.searched_in(config.space)
    assert config.dry_run
    assert fusion.fit.optimizer == "adamw"
    assert fusion.space["num_layers"] == Choice(values=(1, 2))
    assert fusion.space["learning_rate"] == LogUniform(low=1e-4, high=1e-3)


def test_the_two_commands_are_targets_of_make() -> None:
    for line in block(MAKE).splitlines():
        bash(f"make --dry-run {line.split()[1]}", dict(os.environ))


def test_no_block_of_commands_is_left_out() -> None:
    tried = {MAKE, HEAD, CURL, PLAN, SPACE, DECISION, PYTHON, SCORE, TABLE, OWN, BAH, STUDY, MOMENTS}
    tried |= {TABLES, REAL_TABLES, ROW}  # the last two: tests/unit/recipes/test_hsemotion.py
    commands = [text for text in BLOCKS if "─▶" not in text]
    assert len(commands) == len(tried)
    assert all(tried & set(text.splitlines()) for text in commands)


def submit(command: str, environment: dict[str, str], folder: Path = ROOT) -> str:
    """A job, tried again while the head does not take any yet: that is some seconds after `ray start` returns."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return bash(command, environment, folder)
        except AssertionError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(2)


def wait_until_it_scores(serving: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert serving.poll() is None, "serve run ended"
        try:
            if httpx.get("http://localhost:8000/healthz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError("the service does not get ready")
