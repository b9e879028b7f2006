"""What is said in a clip: given by the caller, else the corpus, else a subtitle track, else heard by Whisper."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.media.container import MediaFile
from twominds.media.sound import SAMPLE_RATE_HZ
from twominds.media.subtitles import read_subtitles
from twominds.records import PRESENT, FloatArray, Presence, absent

WHISPER_ROLE = "speech.whisper"
WINDOW_S = 30.0
"""What Whisper hears at once (Radford et al. 2022, section 2.1)."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A clip's words, or why there are none."""

    text: str | None
    source: str
    """`caller`, `corpus`, `subtitles`, `whisper`; "" where there are no words."""
    presence: Presence
    warnings: tuple[str, ...] = ()
    """What was chosen and left out of the file's subtitles."""


def given_transcript(text: str, source: str) -> Transcript:
    """The transcript that somebody gave: also an empty one is an answer, and nobody else is asked."""
    text = text.strip()
    if not text:
        return no_transcript("the transcript is empty")
    return Transcript(text=text, source=source, presence=PRESENT)


def no_transcript(reason: str) -> Transcript:
    """No words, because of `reason`."""
    return Transcript(text=None, source="", presence=absent(reason))


class WhisperRecogniser:
    """Whisper through transformers."""

    def __init__(self, folder: Path, *, language: str | None = "en", device: str = "cpu") -> None:
        """Load the model and its processor from `folder`, never from the hub.

        Args:
            folder: the role's files.
            language: code of the language spoken; None lets the model recognise it. English-only models ignore it.
            device: where the model runs.

        Raises:
            BackboneError: a file is missing or does not fit.
        """
        from transformers import WhisperForConditionalGeneration, WhisperProcessor  # slow to import

        try:
            model = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True)
            self._processor: Any = cast(Any, WhisperProcessor).from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BackboneError(f"{WHISPER_ROLE} in {folder} cannot be loaded: {error}. Fetch it again.") from error
        self._model: Any = cast(Any, model).to(device).eval()
        self._device = device
        self._model.generation_config.max_length = self._model.config.max_target_positions
        multilingual = bool(getattr(self._model.generation_config, "is_multilingual", False))
        self._options = {"task": "transcribe", "language": language} if multilingual else {}

    @torch.inference_mode()
    def transcribe(self, audio: FloatArray) -> str:
        """Words of mono 16 kHz sound [N] of any length, heard in windows of at most 30 s; "" for none."""
        heard: list[str] = []
        for window in windows(audio):
            inputs = self._processor(
                window, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True
            ).to(self._device)
            tokens = self._model.generate(
                inputs["input_features"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                num_beams=1,
                **self._options,
            )
            heard.append(cast(str, self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip())
        return " ".join(part for part in heard if part)


def windows(audio: FloatArray) -> list[FloatArray]:
    """Cut [N] into pieces of at most 30 s, each at the quietest tenth of a second of its last 5 s: not in a word."""
    longest, tail, block = (int(seconds * SAMPLE_RATE_HZ) for seconds in (WINDOW_S, 5.0, 0.1))
    pieces: list[FloatArray] = []
    while len(audio) > longest:
        energy = np.square(audio[longest - tail : longest].reshape(-1, block)).sum(axis=1)
        cut = longest - tail + int(energy.argmin()) * block + block // 2
        pieces.append(audio[:cut])
        audio = audio[cut:]
    return [*pieces, audio]


class Transcriber:
    """Answers what is said in a clip that came without words. Whisper is loaded when it is first needed."""

    def __init__(
        self, store: BackboneStore, *, recognise: bool = True, language: str | None = "en", device: str
    ) -> None:
        self._store, self._recognise, self._language, self._device = store, recognise, language, device
        self._whisper: WhisperRecogniser | None = None

    def read(self, file: MediaFile, audio: FloatArray | None, *, caller: str | None, corpus: str | None) -> Transcript:
        """The first of: the caller's words, the corpus's, a subtitle track of `file`, Whisper on `audio` [N].

        None means: look further. An empty text given by the caller or the corpus ends the search.

        Raises:
            BackboneError: the bundle lists a speech recogniser that cannot be loaded.
        """
        if caller is not None:
            return given_transcript(caller, "caller")
        if corpus is not None:
            return given_transcript(corpus, "corpus")
        subtitles = read_subtitles(file)
        transcript = given_transcript(subtitles.text, "subtitles") if subtitles.text else self._heard(audio)
        return replace(transcript, warnings=subtitles.warnings)

    def _heard(self, audio: FloatArray | None) -> Transcript:
        if not self._recognise:
            return no_transcript("no transcript was given and speech recognition is switched off")
        if audio is None:
            return no_transcript("no transcript was given and there is no sound to hear words in")
        if self._whisper is None:
            if not self._store.has(WHISPER_ROLE):
                return no_transcript("no transcript was given and the bundle has no speech recogniser")
            self._whisper = WhisperRecogniser(
                self._store.folder(WHISPER_ROLE), language=self._language, device=self._device
            )
        text = self._whisper.transcribe(audio)
        if not text:
            return no_transcript("no transcript was given and the speech recogniser heard no words")
        return Transcript(text=text, source="whisper", presence=PRESENT)
