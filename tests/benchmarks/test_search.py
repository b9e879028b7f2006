"""The stability search against a plain loop over the same space, with as many candidates. See README.md.

The parts (two searches and two winners for each seed of the samplers) are tests of their own, so that they can be run
in pieces; what is finished in TWOMINDS_BENCH_OUT is not run again.
"""

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console
from rich.table import Table

from twominds.recipes.space import Candidate
from twominds.search.store import SearchStore

HERE = Path(__file__).resolve().parent
SPACE = "hidden_dim=64,128", "num_layers=1,2", "num_heads=2,4,8", "feedforward_factor=2,4"
"""What is searched elsewhere than `leya` says: models that two cores train in seconds.

The whole space goes up to 512 dimensions, six layers and feed-forward layers eight times as wide: minutes per seed on
two cores, and a baseline of forty candidates would take most of a day.
"""
TRIALS = int(os.environ.get("TWOMINDS_BENCH_TRIALS", "40"))
SEEDS = [int(seed) for seed in os.environ.get("TWOMINDS_BENCH_SEARCH_SEEDS", "0").split(",")]
LIMIT_S = float(os.environ.get("TWOMINDS_BENCH_LIMIT_S", "inf"))
"""A search that is under way so many seconds after the start is ended, and goes on the next time."""
HEARTBEAT_S = 2.0
BUSY = 0.1
"""CPU seconds that others may take in each second of the baseline. Its threads wait for each other in busy loops: it is
several times as slow beside another process that works, and single-threaded trials are hardly slower at all."""
Side = Literal["baseline", "ours"]
SIDES: tuple[Side, ...] = "baseline", "ours"
STARTED = time.monotonic()

# However long it takes: `make bench` has a limit for the others.
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]


@dataclass(kw_only=True)
class Runs:
    """When a part was under way."""

    pieces: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Begin and end, in seconds since 1970, of each process that worked on it: one, unless it was interrupted."""
    others_cpu_s: float = 0.0
    """CPU seconds of all that was not this process or below it. (Of Ray's processes it knows not all: see baseline.)"""
    finished: bool = False

    @classmethod
    def load(cls, folder: Path) -> "Runs":
        """Of the part that is kept in `folder`."""
        path = folder / "runs.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, folder: Path) -> None:
        """Keeps it there."""
        (folder / "runs.json").write_text(json.dumps(asdict(self)))

    def until(self, moment: float = math.inf) -> float:
        """Seconds that the part was under way until then."""
        return sum(max(0.0, min(moment, end) - begin) for begin, end in self.pieces)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One candidate that was over."""

    seconds: float
    """That the search had been under way."""
    mean_score: float | None
    """Over all its seeds; None where it was not trained with all."""
    candidate: Candidate
    status: str
    rank: tuple[float, float, float] | None = None
    """What the search's winner has the most of; None where it was not trained with all."""


def run_part(folder: Path, script: Path, *options: str, limit_s: float = math.inf) -> None:
    """Runs (or goes on with) a script, and counts all the time that its process lives."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs.load(folder)
    if runs.finished:
        return
    if time.monotonic() - STARTED > limit_s:
        pytest.skip(f"out of time: run it again, and {folder} is next")
    environment = os.environ | {"TWOMINDS_HOME": str(folder)}
    # A cluster that is there already; a number of threads that is not the default.
    for name in ("RAY_ADDRESS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    before, began, others_before = runs.pieces, time.time(), others_cpu_s()
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), *options],
            cwd=HERE.parents[1],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while time.monotonic() - STARTED < limit_s:
                try:
                    process.wait(timeout=HEARTBEAT_S)
                    break
                except subprocess.TimeoutExpired:
                    runs.pieces = [*before, (began, time.time())]
                    runs.save(folder)
        finally:
            if killed := process.poll() is None:
                process.kill()
                process.wait()
            runs.pieces = [*before, (began, time.time())]
            runs.others_cpu_s += others_cpu_s() - others_before
            runs.finished = process.returncode == 0
            runs.save(folder)
    if killed:
        time.sleep(10)  # Ray's processes notice by themselves
        pytest.skip(f"out of time: run it again, and {folder} goes on")
    assert runs.finished, f"{script.name} failed:\n{(folder / 'log.txt').read_text()[-3000:]}"


def others_cpu_s() -> float:
    """CPU seconds since boot of all processes but this one's children, as far as these have been waited for."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.read_text().split()[1:8])
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    everything = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return everything - children.ru_utime - children.ru_stime


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results are kept: by default a new folder, so that nothing old is taken for a measurement of today."""
    kept = os.environ.get("TWOMINDS_BENCH_OUT")
    folder = Path(kept).expanduser().resolve() if kept else tmp_path_factory.mktemp("search-benchmark")
    run_part(folder / "data", HERE / "search_data.py", str(folder / "data"))
    return folder


def place(out: Path, side: Side, seed: int) -> Path:
    """Folder of a search."""
    return out / f"{TRIALS}-candidates" / f"seed-{seed}" / side


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", SIDES)
def test_search(out: Path, side: Side, seed: int) -> None:
    folder = place(out, side, seed)
    options = ["--embeddings", out / "data" / "embeddings", "--trials", TRIALS, "--sampler-seed", seed]
    options += ["--space", *SPACE]
    if side == "baseline":
        script, options = HERE / "search_baseline.py", [*options, "--output", folder]
    else:
        places = "--encoders", out / "data" / "encoders", "--output", folder / "search", "--ensemble", folder / "best"
        script, options = HERE.parents[1] / "jobs" / "tune_fusion.py", [*options, *places]
    run_part(folder, script, *map(str, options), limit_s=LIMIT_S)
    assert len(steps(folder, side)) == TRIALS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("side", SIDES)
def test_winner(out: Path, side: Side, seed: int) -> None:
    folder = place(out, side, seed)
    if not Runs.load(folder).finished:
        pytest.skip(f"the search in {folder} is not finished")
    winner = best(steps(folder, side))
    refit = folder / "refit"
    places = "--embeddings", str(out / "data" / "embeddings"), "--output", str(refit / "scores.json")
    options = *places, "--candidate", json.dumps(winner.candidate), "--space", *SPACE
    run_part(refit, HERE / "search_refit.py", *options, limit_s=LIMIT_S)


def test_results(out: Path) -> None:
    searches = [comparison(out, seed) for seed in SEEDS]
    results = {"candidates": TRIALS, "machine": machine(), "searches": searches}
    path = out / f"{TRIALS}-candidates" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2))
    show(searches, path)


def steps(folder: Path, side: Side) -> list[Step]:
    """The candidates of a search, in the order in which they were over."""
    runs = Runs.load(folder)
    found: list[Step] = []
    if side == "baseline":
        lines = folder / "candidates.jsonl"
        for line in lines.read_text().splitlines() if lines.exists() else []:
            row: dict[str, Any] = json.loads(line)
            seconds = runs.until(row["over"])
            step = Step(seconds=seconds, mean_score=row["mean_score"], candidate=row["candidate"], status="finished")
            found.append(replace(step, rank=(row["mean_score"], 0.0, 0.0)))
        return found
    stores = [SearchStore(str(run)) for run in (folder / "search").glob("*")]
    outcomes = [outcome for store in stores for outcome in store.outcomes()]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.over):
        step = Step(
            seconds=runs.until(outcome.over), mean_score=None, candidate=outcome.candidate, status=outcome.status
        )
        if outcome.status == "finished":
            step = replace(step, mean_score=outcome.mean, rank=outcome.rank(std_penalty=0.0))
        found.append(step)
    return found


def best(found: list[Step]) -> Step:
    """The winner: of equals the first, or what the search says."""
    return max((step for step in found if step.rank is not None), key=lambda step: step.rank or ())


def reached(found: list[Step], target: float) -> float | None:
    """Seconds until a candidate was over that is as good; those without all seeds are no rivals."""
    good = (step.seconds for step in found if step.mean_score is not None and step.mean_score >= target - 1e-9)
    return next(good, None)


def side_result(folder: Path, side: Side) -> dict[str, Any]:
    """What is known of one search."""
    runs, found = Runs.load(folder), steps(folder, side)
    result: dict[str, Any] = {
        "complete": runs.finished,
        "seconds": runs.until(),
        "pieces": len(runs.pieces),
        "candidates_over": len(found),
        "statuses": {name: sum(step.status == name for step in found) for name in ("finished", "ended", "failed")},
    }
    if side == "baseline":  # one process, so it is known what was none of it
        result["others_cpu_s"] = runs.others_cpu_s
    if any(step.mean_score is not None for step in found):
        winner = best(found)
        result |= {"best_mf1": winner.mean_score, "best_after_s": winner.seconds, "winner": winner.candidate}
    scores = folder / "refit" / "scores.json"
    if scores.exists():
        result["refit"] = json.loads(scores.read_text())
    result["curve"] = [(step.seconds, step.mean_score) for step in found]
    return result


def comparison(out: Path, seed: int) -> dict[str, Any]:
    """Both sides with the same seed of the sampler, as far as they got."""
    baseline, ours = (side_result(place(out, side, seed), side) for side in SIDES)
    result: dict[str, Any] = {"sampler_seed": seed, "baseline": baseline, "ours": ours}
    if baseline["complete"] and ours["complete"]:
        seconds = reached(steps(place(out, "ours", seed), "ours"), baseline["best_mf1"])
        result |= {
            "times_as_fast": baseline["seconds"] / ours["seconds"],
            "ours_reached_baseline_best_after_s": seconds,
            # Once against all that the baseline took, once against when it had found its best.
            "times_as_fast_to_baseline_best": None if seconds is None else baseline["best_after_s"] / seconds,
            "baseline_time_over_ours_to_its_best": None if seconds is None else baseline["seconds"] / seconds,
        }
        for split in ("validation", "test"):
            if "refit" in baseline and "refit" in ours:
                result[f"{split}_gain"] = gain(baseline["refit"][split], ours["refit"][split])
    return result


def mean_se(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def gain(baseline: list[float], ours: list[float]) -> tuple[float, float]:
    """Ours minus baseline, and its standard error: these are different models, their seeds are no pairs."""
    (lower, lower_se), (upper, upper_se) = mean_se(baseline), mean_se(ours)
    return upper - lower, math.hypot(lower_se, upper_se)


def machine() -> dict[str, Any]:
    """Where it was measured, with what."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {package: version(package) for package in ("torch", "ray", "hyperopt", "optuna")}
    return {"cpu": model, "cpus": len(os.sched_getaffinity(0)), **versions}


def show(searches: list[dict[str, Any]], path: Path) -> None:
    """Prints the results."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print()
    table = Table("sampler seed", "", *SIDES, "", title=f"{TRIALS} candidates, five seeds each")
    for search in searches:
        incomplete = [side for side in SIDES if not search[side]["complete"]]
        ratio = search.get("times_as_fast")
        note = f"not finished: {', '.join(incomplete)}" if ratio is None else f"{ratio:.2f} times as fast"
        table.add_row(str(search["sampler_seed"]), "seconds", *cells(search, "seconds", ".0f"), note)
        others, whole = search["baseline"].get("others_cpu_s", 0.0), search["baseline"]["seconds"]
        if search["baseline"]["complete"] and others > BUSY * whole:
            console.print(
                f"[red]Others took {others:.0f} s of CPU while the baseline ran: its time means nothing.[/red]"
            )
        table.add_row("", "candidates over", *cells(search, "candidates_over", "d"))
        table.add_row("", "with all seeds", *(str(search[side]["statuses"]["finished"]) for side in SIDES))
        table.add_row("", "best mean MF1", *cells(search, "best_mf1", ".4f"))
        table.add_row("", "best after seconds", *cells(search, "best_after_s", ".0f"), time_to_target(search))
        for split in ("validation", "test"):
            scores = (search[side].get("refit") for side in SIDES)
            found = ["not yet" if of is None else "{:.4f} +- {:.4f}".format(*mean_se(of[split])) for of in scores]
            difference = search.get(f"{split}_gain")
            note = "" if difference is None else "{:+.4f} +- {:.4f}".format(*difference)
            table.add_row("", f"winner, fresh seeds, {split}", *found, note, end_section=split == "test")
    console.print(table)
    console.print(f"{path}: {machine()}", highlight=False, soft_wrap=True)


def cells(search: dict[str, Any], name: str, form: str) -> list[str]:
    """One number of both sides."""
    return [format(search[side][name], form) if name in search[side] else "not yet" for side in SIDES]


def time_to_target(search: dict[str, Any]) -> str:
    """When ours had a candidate as good as the baseline's best."""
    if "times_as_fast" not in search:
        return ""
    seconds = search["ours_reached_baseline_best_after_s"]
    if seconds is None:
        return f"ours did not reach the baseline's best, its own is {search['ours']['best_mf1']:.4f}"
    to_best, of_all = search["times_as_fast_to_baseline_best"], search["baseline_time_over_ours_to_its_best"]
    return (
        f"ours was as good as the baseline's best after {seconds:.0f} s: {to_best:.2f} times as fast as the baseline "
        f"found it, {of_all:.2f} times as fast as it was done"
    )
