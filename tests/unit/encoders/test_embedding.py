from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from twominds.backbones import BackboneStore
from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.catalog import ENCODERS, EncodersConfig
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import Encoder
from twominds.recipes.leya import leya
from twominds.records import Embedding, Features, FloatArray, Modality, absent

Make = Callable[..., Features]
CONFIG: EncodersConfig = {**leya().encoders, Modality.AUDIO: AudioEncoderConfig(hidden_dim=16, head_hidden_dim=8)}


def encoder_of(modality: Modality, store: BackboneStore, features_of: Make) -> Encoder:
    torch.manual_seed(0)
    example = features_of(modality)
    config = CONFIG[modality]
    return ENCODERS[type(config)].pretrained(config, num_outputs=2, store=store, example=example)


def mixed(modality: Modality, features_of: Make) -> list[Features]:
    clips = [features_of(modality, length, seed) for seed, length in enumerate((4, 33, 9, 2, 21, 9))]
    gap = Features(clip_id="gap", view=modality, presence=absent("silent"))
    return [*clips[:2], gap, *clips[2:], replace(gap, clip_id="end")]


def probabilities(embeddings: list[Embedding]) -> FloatArray:
    return np.concatenate([e.probabilities for e in embeddings if e.probabilities is not None])


@pytest.mark.parametrize("modality", Modality)
def test_batched_and_alone_agree_in_order_with_absent_clips_passed_through(
    modality: Modality, store: BackboneStore, features_of: Make
) -> None:
    encoder = encoder_of(modality, store, features_of)
    features = mixed(modality, features_of)
    batched = embed(encoder, features, batch_size=4)
    alone = [embed(encoder, [item])[0] for item in features]
    for item, together, single in zip(features, batched, alone, strict=True):
        assert (together.clip_id, together.modality, together.presence) == (item.clip_id, modality, item.presence)
        assert together.pooled is item.pooled
        if not item.presence.present:
            assert together == Embedding(clip_id=item.clip_id, view=modality, presence=item.presence)
            continue
        vector, logits = cast(FloatArray, together.vectors), cast(FloatArray, together.logits)
        assert vector.shape == (1, encoder.embedding_dim)
        assert {array.dtype for array in (vector, logits)} == {np.dtype(np.float32)}
        np.testing.assert_allclose(vector, cast(FloatArray, single.vectors), atol=1e-5)
        exponentials = np.exp(logits.astype(np.float64))
        np.testing.assert_allclose(
            cast(FloatArray, together.probabilities), exponentials / exponentials.sum(), atol=1e-6
        )
    np.testing.assert_allclose(probabilities(batched), probabilities(alone), atol=1e-5)
    assert np.ptp(probabilities(batched)[:, 1]) > 1e-4  # the agreement is not that of a constant


def test_nothing_and_all_absent(store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(Modality.FACE, store, features_of)
    assert embed(encoder, [], batch_size=0) == []
    gap = Features(clip_id="gap", view=Modality.FACE, presence=absent("no face"))
    assert [e.presence.reason for e in embed(encoder, [gap, gap])] == ["no face", "no face"]


def test_runs_without_dropout_and_gives_the_mode_back(store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(Modality.AUDIO, store, features_of).train()
    clip = features_of(Modality.AUDIO)
    first, second = (cast(FloatArray, embed(encoder, [clip])[0].vectors) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert encoder.training
    assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("modality", Modality)
def test_bfloat16_is_close_to_float32(modality: Modality, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(modality, store, features_of)
    features = mixed(modality, features_of)
    reduced = probabilities(embed(encoder, features, precision="bfloat16"))
    np.testing.assert_allclose(reduced, probabilities(embed(encoder, features)), atol=2e-2)
    assert reduced.dtype == np.float32
