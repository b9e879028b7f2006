"""Scoring one clip, against the plain loop over the same models: see README.md beside this file."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore, read_manifest
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.catalog import ENCODERS
from twominds.features.catalog import backbones_of, build_extractor
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig, MediaReader
from twominds.recipes.leya import leya
from twominds.recipes.recipe import STABILITY_SEEDS
from twominds.records import Clip, ClipMedia, Modality, View
from twominds.scoring.ensemble import EnsembleConfig, save_ensemble
from twominds.scoring.members import seed_name
from twominds.synthetic.weights import make_debug_models
from twominds.tasks import AH_VIDEO

ROUNDS = int(os.environ.get("TWOMINDS_BENCH_ROUNDS", "3"))
SIDES = ("loop", "ours")


@dataclass(frozen=True, kw_only=True)
class Places:
    """What both sides get."""

    models: str
    ensemble: str
    clip: str
    words: str


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Debug weights of the published sizes, an untrained ensemble over them, and a drawn clip."""
    folder = Path(os.environ.get("TWOMINDS_BENCH_OUT") or tmp_path_factory.mktemp("scoring"))
    folder.mkdir(parents=True, exist_ok=True)
    models = os.environ.get("TWOMINDS_BENCH_MODELS") or str(folder / "models-full")
    if "detect.yolo_face" not in read_manifest(models):  # the last that is made
        make_debug_models(models, "full")
    clip, words = folder / "clip.mp4", folder / "clip.txt"
    if not words.exists():
        words.write_text(_output("scoring_clip.py", str(clip)))
    _make_ensemble(folder, BackboneStore(uri=models), _clip(clip, words.read_text()))
    return Places(models=models, ensemble=str(folder / "ensemble"), clip=str(clip), words=words.read_text())


def _clip(file: Path | str, words: str) -> Clip:
    return Clip(clip_id="clip", video_uri=str(file), transcript=words)


def _make_ensemble(folder: Path, store: BackboneStore, clip: Clip) -> None:
    torch.manual_seed(0)
    features, encoders, dims = leya().features, leya().encoders, dict[View, int]()
    (media,) = MediaReader(MediaConfig(), store).read_many([clip])
    assert isinstance(media, ClipMedia)
    for view in Modality:
        (example,) = build_extractor(view, features[view], store, with_pooled=False).extract([media])
        assert example.presence.present, example.presence.reason
        settings = encoders[view]
        encoder = ENCODERS[type(settings)].pretrained(settings, num_outputs=2, store=store, example=example)
        dims[view] = encoder.embedding_dim
        used = tuple(used_backbone(store, role) for role in backbones_of(features[view]))
        card = Card(
            kind="encoder", task=AH_VIDEO, recipe="leya", config={"features": to_json(features)}, backbones=used
        )
        save_encoder(str(folder / "encoders" / view), encoder, encoders, card)
    fusion = TransformerFusionConfig()
    save_ensemble(
        str(folder / "ensemble"),
        {seed_name(s): build_fusion(fusion, dims=dims, num_outputs=2, seed=s).state_dict() for s in STABILITY_SEEDS},
        EnsembleConfig(fusion=fusion),
        dims=dims,
        encoders={view: str(folder / "encoders" / view) for view in Modality},
        card=Card(kind="ensemble", task=AH_VIDEO, recipe="leya", config={}),
    )


@pytest.mark.benchmark
def test_the_loop_on_the_same_pictures_has_the_same_score(places: Places) -> None:
    """Equal is what the models make of the clip; the pictures of OpenCV and of FFmpeg differ in their last bits."""
    ours, same = (_run(side, places, runs=0)["probabilities"] for side in ("ours", "same"))
    assert ours == pytest.approx(same, abs=1e-5)


@pytest.mark.benchmark
def test_one_clip_against_the_loop(places: Places) -> None:
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        for side in SIDES:
            found[side].append(_run(side, places))
    print(f"\n20 s of 1080x1920 HEVC, {os.cpu_count()} cores, {ROUNDS} processes of each side in turn:")
    median: dict[str, float] = {}
    for side, runs in found.items():
        median[side] = statistics.median(seconds for run in runs for seconds in run["s"])
        processor_s = statistics.median(seconds for run in runs for seconds in run["processor_s"])
        peak_mib = max(run["peak_mib"] for run in runs)
        probability = runs[0]["probabilities"][-1]
        print(
            f"{side}: {median[side]:.2f} s, {processor_s:.1f} s of processor time, at most {peak_mib:.0f} MiB, "
            f"probability {probability:.6f}"
        )
    print(f"{median['loop'] / median['ours']:.2f} times as fast (target 1.2)")


def _run(side: str, places: Places, *, runs: int = 2) -> dict[str, Any]:
    given = [f"--{name}={value}" for name, value in vars(places).items()]
    return json.loads(_output("scoring_run.py", side, *given, f"--runs={runs}"))


def _output(script: str, *arguments: str) -> str:
    """The last line that a script beside this file prints."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
