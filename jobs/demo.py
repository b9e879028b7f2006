"""The whole path on one machine, from drawn videos to a score over HTTP, with tiny debug weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import tyro
from ray import serve
from rich.console import Console

from twominds.backbones import BackboneStore
from twominds.corpus.manifest import read_corpus
from twominds.errors import BackboneError, CorpusError
from twominds.pipelines.cluster import cluster
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.job import in_sentences
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import WHISPER
from twominds.records import Clip, Split
from twominds.reports.summary import Summary
from twominds.results.quarantine import read_quarantine
from twominds.search.config import SearchConfig
from twominds.serving.app import ServeArgs, build
from twominds.synthetic.corpus.config import SplitShares, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import make_corpus
from twominds.synthetic.weights import make_debug_models
from twominds.tasks import AH_VIDEO
from twominds.workspace import Workspace, described_root

RECIPE = "leya/demo"
URL = "http://127.0.0.1:8000/v1/score"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run every step at a small size; what it makes is where the jobs look by default."""

    clips: int = 120
    """How many videos are drawn."""
    trials: int = 4
    """Candidates of the search, each with five seeds."""
    port: int = 8000
    """Where the service listens while the demo asks it."""


def main(config: DemoConfig) -> None:
    """Runs the steps, each of which leaves alone what an earlier demo made."""
    console, started, workspace = Console(), time.monotonic(), Workspace.default()
    if "://" in workspace.root:
        raise SystemExit(f"demo: TWOMINDS_HOME is {workspace.root}; the demo draws its videos into a local folder.")
    console.print(f"home: {described_root()}", markup=False, highlight=False, soft_wrap=True)

    def step(number: int, title: str, work: Callable[[], Summary | None]) -> None:
        console.rule(f"[bold cyan]{number}/8  {title}")
        begun = time.monotonic()
        summary = work()
        if summary is not None:
            replace(summary, next_step="").show(console)
        console.print(f"  {time.monotonic() - begun:.0f} s", style="dim", highlight=False)

    step(1, "Debug weights (seeded random; all-MiniLM is real)", lambda: _weights(workspace))
    step(2, f"A corpus of {config.clips} drawn videos", lambda: _corpus(config, workspace))
    with cluster():
        step(3, "Preprocess: Ray Data", lambda: preprocess(PreprocessConfig(recipe=RECIPE)))
        step(4, "Train the encoders: Ray Train", lambda: train_encoders(TrainConfig()))
        step(5, "Embed: Ray Data", lambda: embed_features(EmbedConfig()))
        step(6, "Search over five seeds: Ray Tune", lambda: search_fusion(SearchConfig(trials=config.trials)))
        clip, answers = _test_clip(workspace), list[dict[str, Any]]()
        step(7, "Serve, and score a test video over HTTP: Ray Serve", lambda: answers.append(_ask(config, clip)))
        step(8, "Evaluate", lambda: evaluate(EvaluateConfig()))
    console.rule("[bold]The service's answer for a test video")
    console.print_json(data=answers[0])
    _compared(clip, answers[0], workspace).show(console)
    console.print(
        f"\nThe demo took {(time.monotonic() - started) / 60:.1f} minutes. The videos are drawn and the weights are "
        "random but for all-MiniLM: the figures show that the path works, not how well anyone recognises A/H.",
        highlight=False,
    )


def _weights(workspace: Workspace) -> Summary:
    store, summary = BackboneStore(uri=workspace.models), Summary(title="Debug weights", where=workspace.models)
    try:
        for role in find_recipe(RECIPE).frozen_roles():
            if role != WHISPER:
                store.verify(role)
        summary.add("weights", "there from before")
    except BackboneError:  # also what an interrupted demo left unfinished
        make_debug_models(workspace.models, size="tiny")
        summary.add("weights", "made now")
    return summary


def _corpus(config: DemoConfig, workspace: Workspace) -> Summary:
    """Draws the corpus. Where another one lies there, the demo is made of that."""
    summary = Summary(title="Corpus", where=workspace.corpus)
    shares = SplitShares(validation=0.2, test=0.25)  # of so few, BAH's share for validation would be ten clips
    try:
        drawn = make_corpus(SyntheticCorpusConfig(clips=config.clips, shares=shares), Path(workspace.corpus))
    except CorpusError:
        summary.add("there from before", f"{len(read_corpus(workspace.corpus).clips)} clips, not those of this demo")
        return summary
    summary.add("there from before" if drawn.already_there else "drawn now", f"{sum(drawn.clips.values())} clips")
    if broken := sum(drawn.nuisances.get(name, 0) for name in ("truncated", "not_video")):
        summary.notes = [
            f"{broken} of the files are broken on purpose (cut off, or no video at all). The next step refuses them, "
            "and goes on with the others. Where they have a label, they count in the report all the same."
        ]
    return summary


def _ask(config: DemoConfig, clip: Clip) -> dict[str, Any]:
    serve.start(http_options={"host": "127.0.0.1", "port": config.port})
    serve.run(build(ServeArgs()), name="demo")
    try:
        with Path(clip.video_uri).open("rb") as video:
            answer = httpx.post(
                f"http://127.0.0.1:{config.port}/v1/score",
                files={"video": ("clip.mp4", video, "video/mp4")},
                data={"transcript": clip.transcript or ""},
                timeout=120,
            )
        answer.raise_for_status()
    finally:
        serve.delete("demo")
    return answer.json()


def _test_clip(workspace: Workspace) -> Clip:
    """A clip with a label that could be read, of the test split and with words where there is one."""
    broken = {failure.clip_id for failure in read_quarantine(workspace.features)}
    clips = [c for c in read_corpus(workspace.corpus).clips if c.label is not None and c.clip_id not in broken]
    return max(clips, key=lambda clip: (clip.split == Split.TEST, bool(clip.transcript)))


def _compared(clip: Clip, answer: dict[str, Any], workspace: Workspace) -> Summary:
    """The answer beside what is known of the clip. Drawn people have no secrets: here a file may be named."""
    truth, said = AH_VIDEO.names[clip.label or 0], answer["label"]
    summary = Summary(title="The end of the demo", where=f"{workspace.report}/report.html, of all clips: open it")
    summary.add("the video", f"{clip.video_uri} (split {clip.split})")
    summary.add("its true label", truth)
    summary.add("the answer", f"{said}, probability of ah {answer['probability']:.3f}")
    summary.add("which is", "right" if said == truth else "wrong")
    return summary


if __name__ == "__main__":
    with in_sentences():
        main(tyro.cli(DemoConfig))
