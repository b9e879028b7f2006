"""Where a clip's words come from, and how long sound is heard."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.media.container import MediaFile
from twominds.media.speech import Transcriber, WhisperRecogniser, windows
from twominds.records import FloatArray

Write = Callable[..., Path]
AddRole = Callable[[str, Path], BackboneStore]


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
