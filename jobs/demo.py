"""The whole path on one machine, from drawn videos to a score over HTTP, with tiny debug weights."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import tyro
from ray import serve
from rich.console import Console

from twominds.backbones import BackboneStore
from twominds.corpus.manifest import read_corpus
from twominds.corpus.synthetic.config import SplitShares, SyntheticCorpusConfig
from twominds.corpus.synthetic.corpus import make_corpus
from twominds.errors import TwomindsError
from twominds.features.debug import make_debug_models
from twominds.pipelines.cluster import cluster
from twominds.pipelines.embed import EmbedConfig, embed_features
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search.fusion import SearchConfig, search_fusion
from twominds.pipelines.summary import Summary
from twominds.pipelines.train import TrainConfig, train_encoders
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import WHISPER
from twominds.records import Clip, Split
from twominds.serving.app import ServeArgs, build
from twominds.workspace import Workspace, described_root

RECIPE = "leya/demo"
URL = "http://127.0.0.1:8000/v1/score"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run every step at a small size; what it makes is where the jobs look by default."""

    clips: int = 120
    """Drawn videos."""
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
        answers: list[str] = []
        step(7, "Serve, and score a test video over HTTP: Ray Serve", lambda: answers.append(_ask(config, workspace)))
        step(8, "Evaluate", lambda: evaluate(EvaluateConfig()))
    console.rule("[bold]The service's answer for a test video")
    console.print_json(answers[0])
    console.print(
        f"\nThe demo took {(time.monotonic() - started) / 60:.1f} minutes. The videos are drawn and the weights are "
        "random but for all-MiniLM: the figures show that the path works, not how well anyone recognises A/H.",
        highlight=False,
    )


def _weights(workspace: Workspace) -> None:
    store = BackboneStore(uri=workspace.models)
    if not all(store.has(role) for role in find_recipe(RECIPE).frozen_roles() if role != WHISPER):
        make_debug_models(workspace.models, size="tiny")  # also what an interrupted demo left unfinished


def _corpus(config: DemoConfig, workspace: Workspace) -> None:
    shares = SplitShares(validation=0.2, test=0.25)  # of so few, BAH's share for validation would be ten clips
    make_corpus(SyntheticCorpusConfig(clips=config.clips, shares=shares), Path(workspace.corpus))


def _ask(config: DemoConfig, workspace: Workspace) -> str:
    serve.start(http_options={"host": "127.0.0.1", "port": config.port})
    serve.run(build(ServeArgs()), name="demo")
    clip = _test_clip(workspace)
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
    return json.dumps(answer.json())


def _test_clip(workspace: Workspace) -> Clip:
    """A clip of the test split with words."""
    return next(clip for clip in read_corpus(workspace.corpus).clips if clip.split == Split.TEST and clip.transcript)


if __name__ == "__main__":
    try:
        main(tyro.cli(DemoConfig))
    except TwomindsError as error:
        raise SystemExit(f"demo: {error}") from error
