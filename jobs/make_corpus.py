"""Draws a corpus in the layout of BAH or another, with planted truth: real video files that anyone may have.

python jobs/make_corpus.py                         # 160 clips of 4 s, in all four modalities
python jobs/make_corpus.py --preset conflict --clips 400 --root runs/conflict
python jobs/make_corpus.py --task ah-frame --clip-s 12 --root runs/timeline     # A/H in segments, per frame
python jobs/make_corpus.py --layout expr --clip-s 12 --root runs/expressions    # as Aff-Wild2; emi: Hume-Vidmimic2
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from twominds.errors import ConfigError, TwomindsError
from twominds.pipelines.job import in_sentences
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import TRUTH_FILE, CorpusSummary, make_corpus
from twominds.workspace import Workspace, job_command


@dataclass(frozen=True, kw_only=True)
class MakeCorpusJob:
    """Draws a corpus in the layout of BAH or another, with planted truth."""

    root: str = field(default_factory=lambda: Workspace.default().corpus)
    """Where to: a local folder, new or empty, or one drawn before."""
    corpus: Annotated[SyntheticCorpusConfig, tyro.conf.arg(name="")] = field(default_factory=SyntheticCorpusConfig)
    """What to draw."""
    workers: int = 0
    """Processes that draw; 0: one per core. The corpus does not depend on it."""
    overwrite: bool = False
    """Replace a drawn corpus of another config. Nothing but a drawn corpus is ever deleted."""

    def __post_init__(self) -> None:
        if "://" in self.root:
            raise ConfigError(f"root must be a local folder, found {self.root}: draw there, then copy it to the store.")
        if self.workers < 0:
            raise ConfigError(f"workers must not be negative, found {self.workers}.")


def report(summary: CorpusSummary, console: Console) -> None:
    """Says what was done, where it is and what to run next."""
    positives = {"with A/H": summary.positives} if summary.positives else {}
    columns = {"participants": summary.participants, "clips": summary.clips, **positives}
    table = Table("split", *columns, title=f"Corpus at {summary.root}")
    for split in summary.clips:
        table.add_row(split.value, *(str(counts[split]) for counts in columns.values()))
    console.print(table)
    if summary.nuisances:
        defects = ", ".join(f"{name} {count}" for name, count in summary.nuisances.items())
        console.print(f"Clips with a planted defect: {defects}.")
    done = "It was already there: nothing to do." if summary.already_there else f"Drawn in {summary.wall_s:.0f} s."
    console.print(f"{summary.video_s / 60.0:.1f} minutes of video. {done} What was planted: {TRUTH_FILE}.")
    console.print(f"Next: {job_command('preprocess', corpus=str(summary.root))}", soft_wrap=True)


def main() -> None:
    """Runs the job from the command line."""
    console = Console()
    try:
        job = tyro.cli(MakeCorpusJob)
        summary = make_corpus(job.corpus, Path(job.root), workers=job.workers, overwrite=job.overwrite, progress=True)
    except TwomindsError as error:
        raise SystemExit(str(error)) from error
    report(summary, console)


if __name__ == "__main__":
    with in_sentences(keeps=False):
        main()
