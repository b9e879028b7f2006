"""Where a clip's words come from, and how long sound is heard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.media.container import MediaFile
from twominds.media.speech import Transcriber, WhisperRecogniser, windows
from twominds.records import FloatArray

Write = Callable[..., Path]
AddRole = Callable[[str, Path], BackboneStore]


def save_whisper(folder: Path) -> None:
    """A tiny Whisper that says "hi" to anything: each position of the decoder embeds the token to be said next."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    h, i, end, start, no_timestamps = range(5)  # what comes after "no time stamps" would be a time stamp
    vocabulary = {
        "<|endoftext|>": end,
        "<|startoftranscript|>": start,
        "<|notimestamps|>": no_timestamps,
        "h": h,
        "i": i,
    }
    tokenizer = cast(Any, WhisperTokenizer)(vocab=vocabulary, merges=[])
    sizes: dict[str, Any] = {
        f"{half}_{name}": size
        for half in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 1), ("ffn_dim", 8))
    }
    config = WhisperConfig(
        vocab_size=8,
        d_model=8,
        max_target_positions=16,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        **sizes,
    )
    model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        decoder = model.model.decoder
        decoder.layer_norm.weight.fill_(1)
        decoder.embed_tokens.weight.copy_(torch.eye(8))
        for position, token in ((1, h), (2, i), (3, end)):  # position 0 holds the start, 1 "no time stamps"
            decoder.embed_positions.weight[position, token] = 10.0
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, no_timestamps_token_id=no_timestamps
    )
    model.save_pretrained(folder)
    cast(Any, WhisperProcessor)(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    save_whisper(folder)
    return folder


def noise(seconds: float) -> FloatArray:
    return np.random.default_rng(0).normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)


def test_windows_cut_in_the_pause_and_lose_nothing() -> None:
    audio = noise(70)
    audio[int(27.0 * 16_000) : int(27.4 * 16_000)] = 0  # the only pause within reach of the first cut
    pieces = windows(audio)
    np.testing.assert_array_equal(np.concatenate(pieces), audio)
    assert all(len(piece) <= 30 * 16_000 for piece in pieces)
    assert 27.0 < len(pieces[0]) / 16_000 < 27.4
    assert len(windows(noise(30))) == 1


def test_whisper_hears_windows_one_after_the_other(whisper: Path) -> None:
    recogniser = WhisperRecogniser(whisper)
    assert recogniser.transcribe(noise(1)) == "hi"
    assert recogniser.transcribe(noise(40)) == "hi hi"


def test_whisper_that_cannot_be_loaded_names_its_role(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"speech\.whisper"):
        WhisperRecogniser(tmp_path)


def test_words_come_from_caller_then_corpus_then_subtitles_then_whisper(
    write_subtitled: Write, write_video: Write, whisper: Path, add_role: AddRole
) -> None:
    store = add_role("speech.whisper", whisper)
    transcriber = Transcriber(store, device="cpu")
    with MediaFile(write_subtitled([b"Subtitle"])) as file:
        first = transcriber.read(file, noise(1), caller="Caller", corpus="Corpus")
        second = transcriber.read(file, noise(1), caller=None, corpus="Corpus")
        third = transcriber.read(file, noise(1), caller=None, corpus=None)
    with MediaFile(write_video([0, 40])) as file:
        fourth = transcriber.read(file, noise(1), caller=None, corpus=None)
        silent = transcriber.read(file, None, caller=None, corpus=None)
        switched_off = Transcriber(store, recognise=False, device="cpu").read(file, noise(1), caller=None, corpus=None)
    found = [(words.text, words.source) for words in (first, second, third, fourth)]
    assert found == [("Caller", "caller"), ("Corpus", "corpus"), ("Subtitle", "subtitles"), ("hi", "whisper")]
    assert all(words.presence.present for words in (first, second, third, fourth))
    assert silent.presence.reason == "no transcript was given and there is no sound to hear words in"
    assert switched_off.presence.reason == "no transcript was given and speech recognition is switched off"


def test_an_empty_transcript_ends_the_search_and_a_missing_recogniser_is_no_error(
    tmp_path: Path, write_video: Write
) -> None:
    transcriber = Transcriber(BackboneStore(uri=str(tmp_path)), device="cpu")
    with MediaFile(write_video([0, 40])) as file:
        empty = transcriber.read(file, noise(1), caller=None, corpus=" ")
        nowhere = transcriber.read(file, noise(1), caller=None, corpus=None)
    assert (empty.text, empty.source, empty.presence.reason) == (None, "", "the transcript is empty")
    assert nowhere.presence.reason == "no transcript was given and the bundle has no speech recogniser"
