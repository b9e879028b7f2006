"""Writes a drawn corpus: its videos, in parallel, every file of its layout, and the truth beside it."""

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from twominds.errors import CorpusError
from twominds.records import Split
from twominds.synthetic.corpus.clip import DrawnClip, draw_clip
from twominds.synthetic.corpus.config import PlantedTask, SyntheticCorpusConfig
from twominds.synthetic.corpus.expressions import draw_expressions
from twominds.synthetic.corpus.layouts import ENTRIES, write_files
from twominds.synthetic.corpus.mimicry import draw_mimicry
from twominds.synthetic.corpus.plan import ClipPlan, CorpusPlan, person_id, plan_corpus
from twominds.synthetic.corpus.timeline import draw_timeline

TRUTH_FILE = "synthetic-truth.json"
"""What was planted where. For tests and experiments: no reader of the corpus opens it."""
REVISION = 1
"""Counts changes of what a config draws."""
DRAWERS: dict[PlantedTask, Callable[[SyntheticCorpusConfig, ClipPlan, Path], DrawnClip]] = {
    "ah-video": draw_clip,
    "ah-frame": draw_timeline,
    "expression": draw_expressions,
    "mimicry": draw_mimicry,
}


@dataclass(frozen=True, kw_only=True)
class CorpusSummary:
    """What there is after `make_corpus`."""

    root: Path
    already_there: bool
    """The same corpus had been drawn before: nothing was done."""
    clips: dict[Split, int]
    positives: dict[Split, int]
    """Clips with A/H; empty where it is not what is planted."""
    participants: dict[Split, int]
    nuisances: dict[str, int]
    """Clips with each defect."""
    video_s: float
    """Length of all clips together."""
    wall_s: float


def make_corpus(
    config: SyntheticCorpusConfig,
    root: Path,
    *,
    workers: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> CorpusSummary:
    """Draws a corpus below `root`; a corpus of the same config that is already there is left as it is.

    Args:
        config: What to draw.
        root: An empty or new folder, or one that holds a drawn corpus.
        workers: Processes; 0 for one per core. 1 draws in this process. The result does not depend on it.
        overwrite: Replace a drawn corpus of another config. Nothing else is ever deleted.
        progress: Show a progress bar.

    Raises:
        CorpusError: `root` holds something that this function may not replace; names the folder.
    """
    started = time.monotonic()
    plan = plan_corpus(config)
    header = {"revision": REVISION, "config": config.written()}
    if _prepare(root, header, overwrite):
        return _summary(config, root, plan, already_there=True, wall_s=0.0)
    truth = root / TRUTH_FILE
    truth.write_text(json.dumps({**header, "complete": False}), encoding="utf-8")
    drawn = _draw_all(config, plan, root, workers or len(os.sched_getaffinity(0)), progress)
    write_files(config, plan, root, drawn)
    _write_truth(root, header, drawn)
    return _summary(config, root, plan, already_there=False, wall_s=time.monotonic() - started)


def _prepare(root: Path, header: dict[str, Any], overwrite: bool) -> bool:
    """Makes room for the corpus. True: it is already there."""
    if root.exists() and not root.is_dir():
        raise CorpusError(f"{root} is a file: give a folder.")
    if not root.exists() or not any(root.iterdir()):
        root.mkdir(parents=True, exist_ok=True)
        return False
    truth = root / TRUTH_FILE
    if not truth.is_file():
        raise CorpusError(f"{root} is not empty and no drawn corpus: give another folder. (Nothing was deleted.)")
    found = json.loads(truth.read_text(encoding="utf-8"))
    same = all(found.get(key) == json.loads(json.dumps(value)) for key, value in header.items())
    if same and found.get("complete") is True and not overwrite:
        return True
    if not same and not overwrite:
        raise CorpusError(f"{root} holds a drawn corpus of another config: give another folder, or --overwrite.")
    for entry in (*ENTRIES[found["config"].get("layout", "bah")], TRUTH_FILE):
        path = root / entry
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return False


def draw_planned(config: SyntheticCorpusConfig, root: Path, plan: ClipPlan) -> DrawnClip:
    """Draws a clip of the config's task."""
    return DRAWERS[config.planted](config, plan, root)


def _draw_all(
    config: SyntheticCorpusConfig, plan: CorpusPlan, root: Path, workers: int, progress: bool
) -> list[DrawnClip]:
    draw = partial(draw_planned, config, root)
    with _progress_bar(len(plan.clips), progress) as step:
        drawn: list[DrawnClip] = []

        def collect(results: Iterator[DrawnClip]) -> None:
            for clip in results:
                drawn.append(clip)
                step()

        if workers == 1:
            collect(map(draw, plan.clips))
        else:
            # Spawned, not forked: the caller may have threads. Results come in the order of the plan.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(plan.clips)), mp_context=context) as pool:
                collect(pool.map(draw, plan.clips, chunksize=2))
    return drawn


@contextmanager
def _progress_bar(total: int, shown: bool) -> Generator[Callable[[], None]]:
    columns = (TextColumn("Drawing clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown) as bar:
        task = bar.add_task("clips", total=total)
        yield lambda: bar.advance(task)


def _write_truth(root: Path, header: dict[str, Any], drawn: list[DrawnClip]) -> None:
    clips = [
        {
            "clip_id": clip.plan.clip_id,
            "participant": person_id(clip.plan.participant),
            "split": clip.plan.split.value,
            "question": clip.plan.question,
            "label": clip.plan.label,
            "latents": asdict(clip.plan.latents),
            "word_valence": clip.plan.word_valence,
            "face_valence": clip.plan.face_valence,
            "nuisances": sorted(clip.plan.nuisances),
            "moments_s": clip.moments,
            "pause_share": clip.pause_share,
            **({"acted": clip.acted} if clip.acted else {}),
            **({"expressions": clip.expressions} if clip.expressions else {}),
            **({"intensities": clip.intensities} if clip.intensities else {}),
        }
        for clip in drawn
    ]
    text = json.dumps({**header, "complete": True, "clips": clips}, indent=1)
    (root / TRUTH_FILE).write_text(text, encoding="utf-8")


def _summary(
    config: SyntheticCorpusConfig, root: Path, plan: CorpusPlan, *, already_there: bool, wall_s: float
) -> CorpusSummary:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    nuisances = [nuisance for clip in plan.clips for nuisance in clip.nuisances]
    return CorpusSummary(
        root=root,
        already_there=already_there,
        clips={split: sum(clip.split is split for clip in plan.clips) for split in splits},
        positives={split: sum(clip.label for clip in plan.clips if clip.split is split) for split in splits}
        if config.planted.startswith("ah-")
        else {},
        participants={split: sum(person.split is split for person in plan.participants) for split in splits},
        nuisances={name: nuisances.count(name) for name in sorted(set(nuisances))},
        video_s=sum(clip.duration_s for clip in plan.clips),
        wall_s=wall_s,
    )
