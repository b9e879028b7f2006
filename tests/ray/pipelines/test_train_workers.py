"""An encoder that two workers of Ray Train train together: one artifact, chosen by what the protocol says."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds import artifacts
from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders.artifact import load_encoder
from twominds.errors import ConfigError, TrainingError
from twominds.pipelines.cluster import cpus_of_a_worker
from twominds.pipelines.train import TrainConfig, train_encoders, train_several
from twominds.pipelines.train_view import read_examples
from twominds.records import PRESENT, Clip, Features, Modality, Split, clip_labels
from twominds.results import tables
from twominds.results.about import About, claim_folder
from twominds.tasks import AH_VIDEO
from twominds.training.metrics import macro_f1

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

FACE = Modality.FACE


def features(uri: Path, models: str, scale: float = 1.0, *, labelled: bool = True) -> str:
    """Faces of 60 clips; their mean says the label."""
    rng, rows = np.random.default_rng(0), list[tables.Row]()
    for i in range(60):
        split = Split.TRAIN if i < 30 else Split.VALIDATION if i < 45 else Split.TEST
        clip = Clip(clip_id=f"{i}", video_uri="", split=split, labels=clip_labels(i % 2 if labelled else None))
        values = (rng.standard_normal((3, 8)) + 1.5 * (i % 2)).astype(np.float32) * np.float32(scale)
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        found = Features(clip_id=clip.clip_id, view=FACE, presence=PRESENT, values=values, pooled=values.mean(0))
        rows.append(row | tables.features_to_row(found))
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    about = About(recipe="leya/demo", corpus="drawn", fingerprint="0" * 12, models=models, parts={FACE: "0" * 12})
    claim_folder(str(uri), about)
    schema = pa.schema([*fields, *tables.features_fields(FACE)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), uri / "all.parquet")
    return str(uri)


def bundle(uri: Path, roles: Sequence[str]) -> str:
    """A bundle that knows the roles; none of their files is read."""
    uri.mkdir()
    for role in roles:
        (uri / "empty").mkdir()
        add_to_bundle(
            str(uri), role, uri / "empty", BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
        )
    assert BackboneStore(uri=str(uri)).has(roles[0])
    return str(uri)


def test_two_workers_save_one_encoder_that_says_what_chose_it(ray_session: None, tmp_path: Path) -> None:
    models = bundle(tmp_path / "models", ["face.emotion_efficientnet_b0", "detect.yolo_face"])
    config = TrainConfig(
        features=features(tmp_path / "features", models),
        output=str(tmp_path / "encoders"),
        models=models,
        views=(FACE,),
        workers=2,
        protocol="validation+test",
        checkpoint_interval_s=0.5,  # so that all workers report, and go on
    )
    summary = train_encoders(config)
    assert ("selected_on", "validation+test") in summary.facts
    card = artifacts.read_card(f"{config.output}/face")
    assert card.selected_on == "validation+test"
    assert card.data["clips"] == {"train": 30, "val": 15}
    assert card.metrics["best_epoch"] > 10, "the recipe lets no earlier epoch be the best"
    encoder, _ = load_encoder(f"{config.output}/face")
    clips, targets = read_examples(config.features, FACE, config.protocol, AH_VIDEO.output).validation
    with torch.inference_mode():
        answers = encoder(encoder.collate(clips)).logits.argmax(dim=1)
    mf1 = macro_f1(targets.values.numpy(), answers.numpy(), 2)
    assert card.metrics["validation_score"] == pytest.approx(mf1), "the card speaks of other weights"
    assert mf1 > 0.8
    created = card.created
    train_encoders(config)
    assert artifacts.read_card(f"{config.output}/face").created == created, "it was trained again"
    # Two workers on this cluster of two CPUs have one each, and more than two no less.
    assert [cpus_of_a_worker(count) for count in (1, 2, 5)] == [2.0, 1.0, 1.0]


def test_an_encoder_that_diverges_ends_with_its_sentence_at_once(ray_session: None, tmp_path: Path) -> None:
    models = bundle(tmp_path / "models", ["face.emotion_efficientnet_b0", "detect.yolo_face"])
    config = TrainConfig(
        features=features(tmp_path / "features", models, scale=np.inf),  # of which no training makes a number
        output=str(tmp_path / "encoders"),
        models=models,
        views=(FACE,),
        workers=2,
        max_failures=100,  # to try it again would take for ever
    )
    sentence = r"The face encoder could not be trained\. The training loss is nan in"
    with pytest.raises(TrainingError, match=sentence):
        train_encoders(config)
    assert not (tmp_path / "encoders" / "face").exists()
    sound = replace(config, features=features(tmp_path / "sound", models), output=str(tmp_path / "others"))
    elsewhere = replace(sound, features=features(tmp_path / "none", models, labelled=False))
    lost, lacking, done, again = train_several([config, elsewhere, sound, sound])
    assert re.match(sentence, lost)
    assert "No labelled clip" in lacking
    assert (done, again) == ("", "")
    assert artifacts.read_card(f"{sound.output}/face").metrics["validation_score"] > 0.8


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="workers"):
        TrainConfig(workers=0)
    with pytest.raises(ConfigError, match="offload_optimizer"):
        TrainConfig(offload_optimizer=True)
    with pytest.raises(ConfigError, match=r"twominds\[gpu\]"):
        train_encoders(TrainConfig(zero_stage=2))
