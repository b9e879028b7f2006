from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ArtifactError
from twominds.features.catalog import FeaturesConfig, backbones_of, build_extractor, features_from_json
from twominds.features.text import TextFeaturesConfig
from twominds.features.words import WordsFeatures, WordsFeaturesConfig, words_of
from twominds.recipes.leya import leya
from twominds.records import ByteArray, ClipMedia, Features, Modality

MakeClip = Callable[..., ClipMedia]
NOWHERE = BackboneStore(uri="/nowhere")
WORDS: FeaturesConfig = {**leya().features, Modality.TEXT: WordsFeaturesConfig()}


def extract(*media: ClipMedia) -> list[Features]:
    return WordsFeatures(WordsFeaturesConfig(), NOWHERE).extract(media)


def bytes_of(features: Features) -> ByteArray:
    assert features.presence.present
    return cast(ByteArray, features.values)


def test_values_are_the_transcript_as_utf8(make_clip: MakeClip) -> None:
    texts = ["Um, I am not sure.", "ça va, peut-être 🙂\n東京"]
    media = [make_clip(str(i), transcript=text) for i, text in enumerate(texts)]
    media.insert(1, make_clip("absent", missing=Modality.TEXT, transcript="not to be used"))
    one, absent, other = extract(*media)
    assert [one.clip_id, absent.clip_id, other.clip_id] == ["0", "absent", "1"]
    assert (absent.values, absent.pooled, absent.presence.reason) == (None, None, "left out on purpose")
    for text, features in zip(texts, [one, other], strict=True):
        assert features.modality == Modality.TEXT
        assert bytes_of(features).dtype == np.uint8
        assert bytes_of(features).tolist() == list(text.encode("utf-8"))
        assert words_of(bytes_of(features)) == text
        assert features.pooled is None


def test_nothing_said_is_a_space_and_no_transcript_is_absent(make_clip: MakeClip) -> None:
    silent, nothing = extract(make_clip(transcript=""), make_clip())
    assert words_of(bytes_of(silent)) == " "
    assert nothing.presence.reason == "no transcript"


def test_what_utf8_cannot_hold_is_replaced(make_clip: MakeClip) -> None:
    assert words_of(bytes_of(extract(make_clip(transcript="a\ud83db"))[0])) == "a?b"


def test_the_catalogue_needs_no_bundle_for_words() -> None:
    assert isinstance(build_extractor(Modality.TEXT, WORDS[Modality.TEXT], NOWHERE, with_pooled=True), WordsFeatures)
    assert backbones_of(WORDS[Modality.TEXT]) == ()
    assert len(backbones_of(WORDS[Modality.SCENE])) == 1


@pytest.mark.parametrize(
    "config",
    [WORDS, leya().features, {**leya().features, Modality.TEXT: TextFeaturesConfig(backbone="text.all_minilm")}],
)
def test_either_kind_of_text_survives_json(config: FeaturesConfig) -> None:
    assert features_from_json(to_json(config)) == config


def test_json_from_before_there_were_kinds_is_tokens() -> None:
    older = to_json({**leya().features, Modality.TEXT: TextFeaturesConfig(max_tokens=64)})
    del older["text"]["kind"]
    assert features_from_json(older)[Modality.TEXT] == TextFeaturesConfig(max_tokens=64)


def test_a_setting_of_the_other_kind_is_refused() -> None:
    mixed = to_json(WORDS)
    mixed["text"]["max_tokens"] = 64
    with pytest.raises(ArtifactError, match=r"it has no text\.max_tokens"):
        features_from_json(mixed)
