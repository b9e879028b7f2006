"""Rows of tokens: Hugging Face's last hidden states, with the times of their words."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.text_rows import TextRowsFeatures, TextRowsFeaturesConfig
from twominds.records import ClipMedia, FloatArray, Modality, Word

MakeClip = Callable[..., ClipMedia]
ROLE = "text.emotion_distilroberta"
SAID = "Um, I am not sure."
WORDS = tuple(
    Word(text=text, start_s=start, end_s=start + 0.4) for start, text in enumerate(("Um,", "I", "am", "not", "sure."))
)


def huggingface(store: BackboneStore, text: str, max_length: int = 512) -> FloatArray:
    folder = store.folder(ROLE)
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
    model = cast(Any, AutoModel).from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        return model(**inputs).last_hidden_state[0].numpy()


def extractor_of(store: BackboneStore, **settings: Any) -> TextRowsFeatures:
    return TextRowsFeatures(TextRowsFeaturesConfig(backbone=ROLE, **settings), store)


def test_rows_are_hugging_faces_whatever_else_is_in_the_batch(store: BackboneStore, make_clip: MakeClip) -> None:
    texts = (SAID, "Yes!", "on the one hand " * 40)
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(texts)]
    media.insert(1, make_clip("absent", missing=Modality.TEXT))
    found = extractor_of(store, timed=False).extract(media)
    assert [one.presence.present for one in found] == [True, False, True, True]
    for text, one in zip(texts, (found[0], *found[2:]), strict=True):
        assert one.values is not None
        assert (one.pooled, one.times_s) == (None, None)
        np.testing.assert_allclose(one.values, huggingface(store, text), atol=1e-5)


def test_rows_are_cut_and_say_so(store: BackboneStore, make_clip: MakeClip) -> None:
    (one,) = extractor_of(store, timed=False, max_tokens=20).extract([make_clip(transcript="maybe " * 100)])
    assert one.values is not None
    np.testing.assert_allclose(one.values, huggingface(store, "maybe " * 100, 20), atol=1e-5)
    assert "were left out" in one.warnings[0]


def test_each_row_is_timed_by_its_word(store: BackboneStore, make_clip: MakeClip) -> None:
    (one,) = extractor_of(store).extract([make_clip(transcript=SAID, words=WORDS)])
    assert one.values is not None
    assert one.times_s is not None
    assert len(one.times_s) == len(one.values)
    assert (np.diff(one.times_s) >= 0).all()
    assert {0.2, 4.2} <= set(np.round(one.times_s, 3).tolist())  # the middles of the first word and of the last


def test_words_without_times_are_of_no_use_by_time(store: BackboneStore, make_clip: MakeClip) -> None:
    (one,) = extractor_of(store).extract([make_clip(transcript=SAID)])
    assert one.presence.reason == "nobody knows when its words are said"


@pytest.mark.parametrize("setting", [{"max_tokens": 2}, {"max_batch_tokens": 100}])
def test_settings_are_checked(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        TextRowsFeaturesConfig(**cast(Any, setting))
