"""Small backbones, in a bundle as the jobs write them, and random features that fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytest
import torch

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.records import PRESENT, Features, Modality, View

PAD, VOCABULARY = 1, 50
SHAPES: dict[View, tuple[int, ...]] = {
    Modality.SCENE: (4, 32, 32, 3),
    Modality.FACE: (12,),
    Modality.AUDIO: (10,),
    Modality.TEXT: (),
}


class _Saves(Protocol):
    def save_pretrained(self, folder: Path) -> Any: ...


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BackboneStore:
    from transformers import (
        BertConfig,
        BertModel,
        DebertaConfig,
        DebertaModel,
        RobertaConfig,
        RobertaForSequenceClassification,
        VideoMAEConfig,
        VideoMAEForVideoClassification,
    )

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    words: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "hidden_size": 16, **sizes}
    roberta: dict[str, Any] = {**words, "pad_token_id": PAD, "type_vocab_size": 1}
    models: dict[str, object] = {
        # With the heads that the published checkpoints have, which the encoders must leave out.
        "scene.videomae_base": VideoMAEForVideoClassification(
            VideoMAEConfig(image_size=32, num_frames=4, hidden_size=12, **sizes)
        ),
        "text.emotion_distilroberta": RobertaForSequenceClassification(RobertaConfig(**roberta)),
        "text.all_minilm": BertModel(BertConfig(**words)),
        "text.deberta_base": DebertaModel(
            DebertaConfig(**words, relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False)
        ),
    }
    bundle = tmp_path_factory.mktemp("bundle")
    for role, model in models.items():
        folder = tmp_path_factory.mktemp("model")
        cast(_Saves, model).save_pretrained(folder)
        add_to_bundle(str(bundle), role, folder, BundleEntry(weights="debug", hub_id=None, revision="x", licence="x"))
    return BackboneStore(uri=str(bundle))


@pytest.fixture
def features_of() -> Callable[..., Features]:
    """`features_of(modality, length, seed)`: random features of a present clip; the scene's have one length."""

    def make(modality: Modality, length: int = 5, seed: int = 0) -> Features:
        rng = np.random.default_rng([seed, length])
        shape = SHAPES[modality]
        values: Any
        match modality:
            case Modality.SCENE:
                values = rng.integers(0, 256, shape, dtype=np.uint8)
            case Modality.TEXT:
                values = rng.integers(PAD + 1, VOCABULARY, length)
            case _:
                values = rng.normal(size=(length, *shape)).astype(np.float32)
        pooled = rng.normal(size=6).astype(np.float32)
        return Features(clip_id=f"clip-{seed}-{length}", view=modality, presence=PRESENT, values=values, pooled=pooled)

    return make
