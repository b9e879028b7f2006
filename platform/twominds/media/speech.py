"""What is said in a clip: given by the caller, else the corpus, else a subtitle track, else heard by Whisper."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError
from twominds.media.container import MediaFile
from twominds.media.sound import SAMPLE_RATE_HZ
from twominds.media.subtitles import read_subtitles
from twominds.media.word_times import token_starts_s, word_ranges
from twominds.records import PRESENT, FloatArray, Presence, Word, absent

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
    words: tuple[Word, ...] | None = None
    """The words in time, in seconds from the clip's first frame; None where nobody knows when they were said."""
    warnings: tuple[str, ...] = ()
    """What was chosen and left out of the file's subtitles."""


def given_transcript(text: str, source: str, words: tuple[Word, ...] | None = None) -> Transcript:
    """The transcript that somebody gave: also an empty one is an answer, and nobody else is asked."""
    text = text.strip()
    if not text:
        return no_transcript("the transcript is empty")
    return Transcript(text=text, source=source, presence=PRESENT, words=words or None)


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
        heard = [self._text(self._written(self._inputs(window))) for window in windows(audio)]
        return " ".join(part for part in heard if part)

    @torch.inference_mode()
    def transcribe_in_time(self, audio: FloatArray) -> tuple[str, tuple[Word, ...] | None]:
        """The text of `transcribe`, and its words with seconds from the first sample on.

        The words are found by a second look at each window, with the attention that the first one does not give, so
        that the text stays what it is. None where the model does not say which of its heads follow the sound.
        """
        heads = cast(list[list[int]] | None, getattr(self._model.generation_config, "alignment_heads", None))
        if not heads:
            return self.transcribe(audio), None
        heard, words, before = list[str](), list[Word](), 0
        for window in windows(audio):
            inputs = self._inputs(window)
            tokens = self._written(inputs)
            heard.append(self._text(tokens))
            words += self._words(inputs, tokens, heads, offset_s=before / SAMPLE_RATE_HZ)
            before += len(window)
        return " ".join(part for part in heard if part), tuple(words)

    def _inputs(self, window: FloatArray) -> Any:
        return self._processor(
            window, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True
        ).to(self._device)

    def _written(self, inputs: Any) -> Tensor:
        """[1, n] ids of what is written about a window, without the special tokens around it."""
        return self._model.generate(
            inputs["input_features"],
            attention_mask=inputs["attention_mask"],
            do_sample=False,
            num_beams=1,
            **self._options,
        )

    def _text(self, tokens: Tensor) -> str:
        return cast(str, self._processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()

    def _words(self, inputs: Any, tokens: Tensor, heads: Sequence[Sequence[int]], *, offset_s: float) -> list[Word]:
        """The words that `tokens` [1, n] are, in time."""
        special = set(cast(list[int], self._processor.tokenizer.all_special_ids))
        ids = [token for token in cast(list[int], tokens[0].tolist()) if token not in special]
        if not ids:
            return []
        prompt = self._prompt()
        encoded = self._model.get_encoder()(inputs["input_features"])
        implementation = self._model.config._attn_implementation
        self._model.set_attn_implementation("eager")  # the only one that tells what was looked at
        try:
            output = self._model(
                encoder_outputs=encoded,
                decoder_input_ids=torch.tensor([[*prompt, *ids]], device=self._device),
                output_attentions=True,
            )
        finally:
            self._model.set_attn_implementation(implementation)
        frames = max(1, int(inputs["attention_mask"].sum()) // 2)  # the encoder halves them
        # The token at each place is what the place before it wrote; the last place wrote the end.
        looked = [output.cross_attentions[layer][0, head, len(prompt) - 1 :, :frames] for layer, head in heads]
        starts_s = token_starts_s(torch.stack(looked).float().cpu().numpy())
        ranges = word_ranges(self._processor.tokenizer.convert_ids_to_tokens(ids))
        texts = self._processor.batch_decode([[ids[i] for i in word] for word in ranges], skip_special_tokens=True)
        timed = zip(cast(list[str], texts), ranges, strict=True)
        return [
            Word(
                text=text.strip(),
                start_s=offset_s + float(starts_s[word.start]),
                end_s=offset_s + float(starts_s[word.stop]),
            )
            for text, word in timed
            if text.strip()
        ]

    def _prompt(self) -> list[int]:
        """What the model is made to begin with: language and task, where it knows several, and that no times follow."""
        settings = self._model.generation_config
        named: list[int | None] = []
        if self._options:
            named = [
                settings.lang_to_id.get(f"<|{self._options['language'] or 'en'}|>"),
                settings.task_to_id["transcribe"],
            ]
        prompt = [settings.decoder_start_token_id, *named, getattr(settings, "no_timestamps_token_id", None)]
        return [token for token in prompt if token is not None]


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
        self,
        store: BackboneStore,
        *,
        recognise: bool = True,
        language: str | None = "en",
        device: str,
        in_time: bool = False,
    ) -> None:
        """Load nothing yet.

        Args:
            store: where Whisper is.
            recognise: whether it is asked.
            language: what is spoken, for Whisper.
            device: where it runs.
            in_time: whether it is also asked when words were said, which takes a second look.
        """
        self._store, self._recognise, self._language, self._device = store, recognise, language, device
        self._in_time = in_time
        self._whisper: WhisperRecogniser | None = None

    def read(
        self,
        file: MediaFile,
        audio: FloatArray | None,
        *,
        caller: str | None,
        corpus: str | None,
        words: tuple[Word, ...] | None = None,
        zero_s: float = 0.0,
        audio_start_s: float = 0.0,
    ) -> Transcript:
        """The first of: the caller's words, the corpus's, a subtitle track of `file`, Whisper on `audio` [N].

        None means: look further. An empty text given by the caller or the corpus ends the search.

        Args:
            file: the clip's file.
            audio: its sound, None where there is none to hear words in.
            caller: the caller's transcript, which has no times.
            corpus: the corpus's.
            words: the corpus's in time.
            zero_s: when the clip's first frame is shown, in the container's own time.
            audio_start_s: when the first sample is heard, in seconds from the clip's first frame.

        Raises:
            BackboneError: the bundle lists a speech recogniser that cannot be loaded.
        """
        if caller is not None:
            return given_transcript(caller, "caller")
        if corpus is not None:
            return given_transcript(corpus, "corpus", words)
        subtitles = read_subtitles(file)
        if subtitles.text:
            transcript = given_transcript(subtitles.text, "subtitles", moved(subtitles.words, -zero_s))
        else:
            transcript = self._heard(audio, audio_start_s)
        return replace(transcript, warnings=subtitles.warnings)

    def _heard(self, audio: FloatArray | None, audio_start_s: float) -> Transcript:
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
        text, words = (
            self._whisper.transcribe_in_time(audio) if self._in_time else (self._whisper.transcribe(audio), None)
        )
        if not text:
            return no_transcript("no transcript was given and the speech recogniser heard no words")
        return given_transcript(text, "whisper", moved(words or (), audio_start_s))


def moved(words: Sequence[Word], by_s: float) -> tuple[Word, ...]:
    """The same words, said later by so much."""
    return tuple(replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in words)
