"""From the ensemble's folder to a score: what is loaded is what was saved, and what was left out of a clip is said."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]  # an open PathLike

from twominds import artifacts
from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder, used_backbone
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.errors import ArtifactError, BackboneError
from twominds.features.catalog import build_extractor
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ClassWeightedConfig
from twominds.recipes.leya import leya
from twominds.records import PRESENT, ClipMedia, Modality, Score, absent
from twominds.scoring.ensemble import EnsembleConfig, save_ensemble
from twominds.scoring.members import seed_name
from twominds.scoring.scorer import Scorer, check_ensemble, encoder_uri, gather
from twominds.tasks import AH_VIDEO

TEXT, ROLE = Modality.TEXT, "text.emotion_distilroberta"
LOAD: tuple[Callable[[str, BackboneStore], object], ...] = (Scorer.load, check_ensemble)
"""Whoever scores, and whoever has other processes score: the service's build, `jobs/score.py`."""


def media(name: str, transcript: str | None, *warnings: str) -> ClipMedia:
    said = PRESENT if transcript is not None else absent("no transcript")
    return ClipMedia(
        clip_id=name,
        duration_s=1.0,
        scene_frames=None,
        face_crops=None,
        face_detected=None,
        audio=None,
        transcript=transcript,
        transcript_source="corpus",
        presence={m: said if m == TEXT else absent("not here") for m in Modality},
        warnings=warnings,
    )


@dataclass(frozen=True, kw_only=True)
class Places:
    ensemble: str
    store: BackboneStore

    def path(self, name: str) -> Path:
        return Path(self.ensemble) / name


@pytest.fixture
def places(tmp_path: Path, tiny_bundle: str) -> Places:
    """An ensemble over text alone, its encoder over a frozen language model, and a bundle with that."""
    models, encoder_at, ensemble = tmp_path / "models", str(tmp_path / "encoder"), str(tmp_path / "ensemble")
    shutil.copytree(Path(tiny_bundle) / ROLE, models / ROLE)
    shutil.copyfile(Path(tiny_bundle) / "manifest.json", models / "manifest.json")
    store, features = BackboneStore(uri=str(models)), leya().features
    said = [media(str(i), "maybe " if i % 2 else "surely") for i in range(8)]
    train = build_extractor(TEXT, features[TEXT], store, with_pooled=False).extract(said)
    config = ClassicalTextConfig(representation="mean", backbone=ROLE)
    encoder = ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=train[0])
    encoder.learn(train, torch.arange(8) % 2, seed=0)
    card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config={"features": to_json(features)})
    save_encoder(encoder_at, encoder, {TEXT: config}, replace(card, backbones=(used_backbone(store, ROLE),)))
    fusion = ClassWeightedConfig()
    save_ensemble(
        ensemble,
        {seed_name(7): build_fusion(fusion, dims={TEXT: 2}, num_outputs=2).state_dict()},
        EnsembleConfig(fusion=fusion, inputs="logits", views=(TEXT,)),
        dims={TEXT: 2},
        encoders={TEXT: encoder_at},
        card=Card(kind="ensemble", task=AH_VIDEO, recipe="test", config={}),
    )
    return Places(ensemble=ensemble, store=store)


def add_one(path: Path) -> None:
    """To the first number of the first tensor that has one."""
    tensors = load_file(path)
    name = next(name for name, tensor in sorted(tensors.items()) if tensor.is_floating_point())
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path)


@pytest.mark.parametrize("changed", ["model.safetensors", "encoders/text/model.safetensors"])
def test_one_number_of_an_ensemble_that_was_changed(places: Places, changed: str) -> None:
    for load in LOAD:
        load(places.ensemble, places.store)
    add_one(places.path(changed))
    for load in LOAD:
        with pytest.raises(ArtifactError, match=rf"ensemble/{changed} .*changed or damaged"):
            load(places.ensemble, places.store)


def test_one_number_of_the_bundle_that_was_changed(places: Places) -> None:
    add_one(Path(places.store.uri) / ROLE / "model.safetensors")
    for load in LOAD:
        with pytest.raises(BackboneError, match=rf"{ROLE}/model\.safetensors is not the file that was fetched"):
            load(places.ensemble, places.store)


def test_an_encoder_of_another_training(places: Places) -> None:
    """Whole, of the same shapes, and yet the fusion knows nothing of what it says."""
    uri = encoder_uri(places.ensemble, TEXT)
    card = artifacts.read_card(uri)
    tensors = {name: -tensor for name, tensor in artifacts.load_tensors(uri).items()}
    other = artifacts.save(uri, tensors, card)
    for load in LOAD:
        with pytest.raises(ArtifactError, match=rf"{other.artifact_id}, and .* was made with {card.artifact_id}\."):
            load(places.ensemble, places.store)


def test_what_was_left_out_of_a_clip_is_said_with_its_score(places: Places) -> None:
    scorer = Scorer.load(places.ensemble, places.store)
    clips = [
        media("long", "maybe " * 300, "Of two sound tracks the first was taken."),
        media("short", "maybe", "The forced subtitles were left out."),
        media("fine", "surely"),
    ]
    branch = scorer._branches[TEXT]  # pyright: ignore[reportPrivateUsage]
    for batch in (clips, *([clip] for clip in clips)):
        embeddings = [gather([embedding]) for embedding in branch.embed(batch)]
        scores = scorer.ensemble.score([found for found in embeddings if isinstance(found, dict)])
        for clip, score in zip(batch, scores, strict=True):
            assert isinstance(score, Score)
            assert score.warnings[: len(clip.warnings)] == clip.warnings
            own = score.warnings[len(clip.warnings) :]
            assert ["tokens (words and parts of words) were left out." in text for text in own] == (
                [True] if clip.clip_id == "long" else []
            )
