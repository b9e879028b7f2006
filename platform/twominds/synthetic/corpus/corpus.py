"""Writes a drawn corpus: every file of BAH's version 2 layout, in parallel, and the truth beside it."""

import csv
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from twominds.errors import CorpusError
from twominds.records import Split
from twominds.synthetic.corpus.clip import DrawnClip, draw_clip
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.plan import CorpusPlan, plan_corpus
from twominds.synthetic.corpus.voice import SpokenClause

TRUTH_FILE = "synthetic-truth.json"
"""What was planted where. For tests and experiments: no reader of the corpus opens it."""
REVISION = 1
"""Counts changes of what a config draws."""
_ENTRIES = (
    "Videos",
    "cropped-aligned-faces",
    "transcription",
    "split",
    "split-frames",
    "video_annotation_transcript.yaml",
    "meta_data.yml",
    "bah-video.csv",
    TRUTH_FILE,
)
_WINDOW_S = 30.0  # the recogniser's, with which its time stamps restart
_OPEN_END_SHARE = 10  # one transcript in so many ends with an open time stamp
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, kw_only=True)
class CorpusSummary:
    """What there is after `make_corpus`."""

    root: Path
    already_there: bool
    """The same corpus had been drawn before: nothing was done."""
    clips: dict[Split, int]
    positives: dict[Split, int]
    participants: dict[Split, int]
    nuisances: dict[str, int]
    """Clips with each defect."""
    video_s: float
    """Length of all clips together."""
    wall_s: float


class _TupleDumper(_Dumper):  # a safe dumper that writes tuples as the corpus does
    pass


def _represent_tuple(dumper: Any, value: tuple[object, ...]) -> Any:
    return dumper.represent_sequence("tag:yaml.org,2002:python/tuple", list(value))


_TupleDumper.add_representer(tuple, _represent_tuple)


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
    header = {"revision": REVISION, "config": asdict(config)}
    if _prepare(root, header, overwrite):
        return _summary(root, plan, already_there=True, wall_s=0.0)
    truth = root / TRUTH_FILE
    truth.write_text(json.dumps({**header, "complete": False}), encoding="utf-8")
    drawn = _draw_all(config, plan, root, workers or len(os.sched_getaffinity(0)), progress)
    _write_participants(root, plan)
    _write_splits(root, drawn)
    _write_annotations(root, drawn)
    _write_truth(root, header, drawn)
    return _summary(root, plan, already_there=False, wall_s=time.monotonic() - started)


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
    for entry in _ENTRIES:
        path = root / entry
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return False


def _draw_all(
    config: SyntheticCorpusConfig, plan: CorpusPlan, root: Path, workers: int, progress: bool
) -> list[DrawnClip]:
    draw = partial(draw_clip, config, root=root)
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


def _write_yaml(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(value, stream, Dumper=cast(Any, _TupleDumper), allow_unicode=True, sort_keys=True, width=4096)


def _write_participants(root: Path, plan: CorpusPlan) -> None:
    _write_yaml(root / "meta_data.yml", {person.participant_id: person.about for person in plan.participants})


def _write_splits(root: Path, drawn: list[DrawnClip]) -> None:
    (root / "split").mkdir()
    (root / "split-frames").mkdir()
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        clips = [clip for clip in drawn if clip.plan.split is split]
        rows = [f"{clip.plan.clip_id},{clip.plan.label},{clip.transcript}\n" for clip in clips]
        (root / "split" / f"{split.value}.txt").write_text("".join(rows), encoding="utf-8")
        frames = [
            f"{clip.plan.clip_id}/frame-{number}.jpg,{label}\n"
            for clip in clips
            for number, label in enumerate(clip.frame_labels)
        ]
        (root / "split-frames" / f"{split.value}.txt").write_text("".join(frames), encoding="utf-8")
    with (root / "bah-video.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video", "participant", "question", "split", "global_ah", "frames"])
        for clip in drawn:
            person = clip.plan.clip_id.split("/")[1]
            table.writerow(
                [
                    clip.plan.clip_id,
                    person,
                    clip.plan.question,
                    clip.plan.split.value,
                    clip.plan.label,
                    len(clip.frame_times_s),
                ]
            )


def _write_annotations(root: Path, drawn: list[DrawnClip]) -> None:
    annotations: dict[str, object] = {}
    for clip in drawn:
        clip_id, labels = clip.plan.clip_id, clip.frame_labels
        pairs = [_frame_range(clip.frame_times_s, segment) for segment in clip.segments]
        annotations[clip_id] = {
            "global_ah": clip.plan.label,
            "annotator_id": 1 + clip.plan.participant % 3,
            "transcript": clip.transcript,
            "certainty_ah": [3 for _ in clip.segments],
            "time_detailed_ah": [[_clock(start), _clock(end)] for start, end in clip.segments],
            "fr_detailed_ah": pairs,
            "frame_annotation": [[f"{clip_id}/frame-{number}.jpg", label] for number, label in enumerate(labels)],
            "all_cues": clip.cues,
        }
        stem = clip_id.rsplit("/", 1)[-1].removesuffix(".mp4")
        chunks = recognised_chunks(clip.clauses, open_end=clip.plan.index % _OPEN_END_SHARE == 0)
        _write_yaml(root / "transcription" / clip_id / f"{stem}.yml", {"chunks": chunks, "text": clip.transcript})
    _write_yaml(root / "video_annotation_transcript.yaml", annotations)


def _frame_range(times_s: tuple[float, ...], segment: tuple[float, float]) -> list[int]:
    """The first and the last frame shown in a segment."""
    inside = [number for number, time_s in enumerate(times_s) if segment[0] <= time_s <= segment[1]]
    return [inside[0], inside[-1]] if inside else []


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60.0)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:06.3f}"


def recognised_chunks(clauses: Sequence[SpokenClause], *, open_end: bool = False) -> list[dict[str, object]]:
    """The recogniser's output: one chunk per clause, with time stamps that restart about every 30 s.

    Args:
        clauses: What is said, in order.
        open_end: The last end is not known.
    """
    chunks: list[dict[str, object]] = []
    offset_s = end_s = 0.0
    for number, clause in enumerate(clauses, start=1):
        if clause.end_s - offset_s > _WINDOW_S:
            offset_s = end_s
        start_s, end_s = round(clause.start_s, 2), round(clause.end_s, 2)
        end = None if open_end and number == len(clauses) else round(end_s - offset_s, 2)
        stamp = (round(start_s - offset_s, 2), end)
        chunks.append({"language": "english", "text": f" {clause.text},", "timestamp": stamp})
    return chunks


def _write_truth(root: Path, header: dict[str, Any], drawn: list[DrawnClip]) -> None:
    clips = [
        {
            "clip_id": clip.plan.clip_id,
            "participant": clip.plan.clip_id.split("/")[1],
            "split": clip.plan.split.value,
            "question": clip.plan.question,
            "label": clip.plan.label,
            "latents": asdict(clip.plan.latents),
            "word_valence": clip.plan.word_valence,
            "face_valence": clip.plan.face_valence,
            "nuisances": sorted(clip.plan.nuisances),
            "moments_s": clip.moments,
            "pause_share": clip.pause_share,
        }
        for clip in drawn
    ]
    text = json.dumps({**header, "complete": True, "clips": clips}, indent=1)
    (root / TRUTH_FILE).write_text(text, encoding="utf-8")


def _summary(root: Path, plan: CorpusPlan, *, already_there: bool, wall_s: float) -> CorpusSummary:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    nuisances = [nuisance for clip in plan.clips for nuisance in clip.nuisances]
    return CorpusSummary(
        root=root,
        already_there=already_there,
        clips={split: sum(clip.split is split for clip in plan.clips) for split in splits},
        positives={split: sum(clip.label for clip in plan.clips if clip.split is split) for split in splits},
        participants={split: sum(person.split is split for person in plan.participants) for split in splits},
        nuisances={name: nuisances.count(name) for name in sorted(set(nuisances))},
        video_s=sum(clip.duration_s for clip in plan.clips),
        wall_s=wall_s,
    )
