from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.features.catalog import build_extractor
from twominds.features.words import WordsFeaturesConfig
from twominds.records import PRESENT, ClipMedia, Embedding, Modality, absent
from twominds.scoring.branch import Branch
from twominds.tasks import AH_VIDEO


def media(name: str, transcript: str | None) -> ClipMedia:
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
        presence={m: said if m == Modality.TEXT else absent("not here") for m in Modality},
    )


@pytest.mark.parametrize("classifier", ["logistic_regression", "lightgbm", "catboost"])
def test_words_go_from_media_to_probabilities_without_a_bundle(classifier: Any, tmp_path: Path) -> None:
    store, features = BackboneStore(uri="/nowhere"), WordsFeaturesConfig()
    said = [media(str(i), ("maybe " if i % 2 else "surely ") + "I will go " + "again " * (i % 3)) for i in range(20)]
    train = build_extractor(Modality.TEXT, features, store, with_pooled=False).extract(said)
    config = ClassicalTextConfig(classifier=classifier, trees=10)
    encoder = ClassicalTextEncoder.pretrained(config, num_outputs=2, store=store, example=train[0])
    encoder.learn(train, torch.arange(20) % 2, seed=0)
    card = Card(kind="encoder", task=AH_VIDEO, recipe="test", config={"features": to_json({Modality.TEXT: features})})
    save_encoder(str(tmp_path), encoder, {Modality.TEXT: config}, card)
    branch, _ = Branch.load(str(tmp_path), store, with_pooled=False)
    clips = [media("no", "Surely."), media("mute", None), media("yes", "Maybe..."), media("silent", "")]
    no, mute, yes, silent = branch.embed(clips)
    assert isinstance(mute, Embedding)
    assert mute.vectors is None
    for found, wanted in ((no, 0), (yes, 1)):
        assert isinstance(found, Embedding)
        assert found.probabilities is not None
        assert found.probabilities[0].argmax() == wanted
        (alone,) = branch.embed([clips[0] if wanted == 0 else clips[2]])
        assert isinstance(alone, Embedding)
        assert alone.probabilities is not None
        np.testing.assert_allclose(alone.probabilities, found.probabilities, atol=1e-6)
    assert isinstance(silent, Embedding)
    assert silent.vectors is not None
    assert not silent.vectors.any()
