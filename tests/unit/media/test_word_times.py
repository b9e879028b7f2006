"""When words were said, from where a recogniser looked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from twominds.backbones import BackboneStore
from twominds.media.container import MediaFile
from twominds.media.speech import Transcriber, WhisperRecogniser
from twominds.media.word_times import token_starts_s, word_ranges

Write = Callable[..., Path]
AddRole = Callable[[str, Path], BackboneStore]


def test_tokens_begin_where_the_heads_begin_to_look() -> None:
    starts, frames = [0, 20, 50, 55, 90], 120
    attention = np.full((2, 5, frames), 0.01, np.float32)
    for row, (start, end) in enumerate(zip(starts, [*starts[1:], frames], strict=True)):
        attention[:, row, start:end] = 1.0
    attention += np.random.default_rng(0).uniform(0, 0.01, attention.shape).astype(np.float32)
    np.testing.assert_allclose(token_starts_s(attention, smoothed_over=3), np.array(starts) * 0.02, atol=0.021)


def test_they_go_on_in_time_whatever_the_heads_do() -> None:
    for attention in (np.zeros((1, 4, 9)), np.random.default_rng(1).random((3, 12, 5))):
        starts_s = token_starts_s(attention.astype(np.float32))
        assert starts_s[0] == 0
        assert (np.diff(starts_s) >= 0).all()
        assert starts_s[-1] < 9 * 0.02


def test_the_path_is_openais() -> None:
    whisper: Any = pytest.importorskip("transformers.models.whisper.generation_whisper")
    attention = np.random.default_rng(2).random((4, 10, 60)).astype(np.float32)
    weights = torch.from_numpy(attention)
    level = (weights - weights.mean(-2, keepdim=True)) / weights.std(-2, keepdim=True, unbiased=False)
    matrix = whisper._median_filter(level[None], 7)[0].mean(0).double().numpy()
    rows, columns = whisper._dynamic_time_warping(-matrix)
    theirs = columns[np.pad(np.diff(rows), (1, 0), constant_values=1).astype(bool)] * 0.02
    np.testing.assert_allclose(token_starts_s(attention), theirs, atol=1e-9)


def test_words_begin_at_spaces() -> None:
    assert word_ranges(["I", "Ġdon", "'t", "Ġknow"]) == [range(0, 1), range(1, 3), range(3, 4)]
    assert word_ranges(["ĠWell"]) == [range(0, 1)]
    assert word_ranges([]) == []


def with_heads(folder: Path) -> WhisperRecogniser:
    recogniser = WhisperRecogniser(folder)
    cast(Any, recogniser)._model.generation_config.alignment_heads = [[0, 0]]
    return recogniser


def test_a_recogniser_with_heads_times_its_words_and_writes_the_same(whisper: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 40 * 16_000).astype(np.float32)
    assert WhisperRecogniser(whisper).transcribe_in_time(sound) == ("hi hi", None)
    recogniser = with_heads(whisper)
    text, words = recogniser.transcribe_in_time(sound)
    assert text == recogniser.transcribe(sound) == "hi hi"
    assert words is not None
    assert [word.text for word in words] == ["hi", "hi"]
    assert 0 <= words[0].start_s <= words[0].end_s <= 30 <= 25 + words[1].start_s
    assert words[1].start_s >= 25  # of the second window
    assert words[1].end_s <= 40


def test_silence_has_no_words_in_time(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(inputs: object) -> torch.Tensor:
        return torch.tensor([[2]])

    recogniser = with_heads(whisper)
    monkeypatch.setattr(recogniser, "_written", nothing)
    assert recogniser.transcribe_in_time(np.zeros(16_000, np.float32)) == ("", ())


def test_whisper_is_asked_for_times_where_they_are_wanted(
    whisper: Path, add_role: AddRole, write_video: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = add_role("speech.whisper", whisper)

    def build(folder: Path, **_: object) -> WhisperRecogniser:
        return with_heads(folder)

    monkeypatch.setattr("twominds.media.speech.WhisperRecogniser", build)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    with MediaFile(write_video([0, 40])) as file:
        asked = Transcriber(store, device="cpu", in_time=True)
        timed = asked.read(file, sound, caller=None, corpus=None, audio_start_s=-3.0)
        plain = Transcriber(store, device="cpu").read(file, sound, caller=None, corpus=None)
    assert (timed.text, plain.text, plain.words) == ("hi", "hi", None)
    assert timed.words is not None
    assert -3.0 <= timed.words[0].start_s <= timed.words[0].end_s <= -2.0
