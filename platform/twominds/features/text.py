"""Text: the token ids of the transcript, and what a frozen text backbone makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.errors import BackboneError, ConfigError
from twominds.features.extractor import Precision, autocast, extract_present, present_features
from twominds.features.loading import load_backbone
from twominds.features.token_times import token_times
from twominds.records import ClipMedia, Features, FloatArray, Modality, Times, View, Word

SPARE_ROWS = 1024
"""Most rows of a model's table of tokens that no token has: tables are often rounded up, to multiples of 64 or more."""


@dataclass(frozen=True, kw_only=True)
class TokenizedTextConfig:
    """What features of tokens share: the tokenizer, how much it reads, and how the frozen text backbone runs."""

    backbone: str = "text.emotion_distilroberta"
    """Role of a BERT-like encoder in the bundle (`text.all_minilm` is another)."""
    max_tokens: int = 256
    """Longer transcripts are cut here, special tokens included."""
    max_batch_tokens: int = 4096
    """Tokens, padding included, in one forward pass; bounds memory."""
    precision: Precision = "float32"
    """`bfloat16`: faster where the processor has it, at about 2e-2 relative difference."""

    def __post_init__(self) -> None:
        if not 3 <= self.max_tokens <= 512:
            raise ConfigError(f"text.max_tokens must be 3 to 512, not {self.max_tokens}.")
        if self.max_batch_tokens < self.max_tokens:
            raise ConfigError(
                f"text.max_batch_tokens ({self.max_batch_tokens}) must be at least max_tokens ({self.max_tokens})."
            )


@dataclass(frozen=True, kw_only=True)
class TextFeaturesConfig(TokenizedTextConfig):
    """Token ids for a text encoder that is trained, and the frozen backbone for what is pooled."""

    kind: Literal["tokens"] = "tokens"
    """Tells it from the other text features in JSON."""


class TextFeatures:
    """Transcript -> `values` int64 [L] token ids; `pooled` float32 [2 * D] (D = 768 published), if asked for.

    `values` start and end with the tokenizer's special tokens. `pooled` is [mean; std] of the frozen backbone's last
    hidden state over all of them; it is loaded and run for that alone. An empty transcript that media calls present is
    just its special tokens. What a longer transcript than `max_tokens` loses is said in the `warnings`.
    """

    view: View = Modality.TEXT

    def __init__(
        self, config: TokenizedTextConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        self.config = config
        self.device = device
        self._tokenizer = _load_tokenizer(store, config.backbone)
        self._model = load_backbone(store, config.backbone, device=device) if with_pooled else None

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`."""
        return extract_present(media, self.view, no_transcript, self._extract)

    def tokenize(self, transcript: str) -> npt.NDArray[np.int64]:
        """Token ids with special tokens, at most `max_tokens`: int64 [L]."""
        ids = cast(
            list[int], self._tokenizer(transcript, truncation=True, max_length=self.config.max_tokens)["input_ids"]
        )
        return np.asarray(ids, dtype=np.int64)

    def times(self, transcript: str, words: Sequence[Word] | None) -> Times | None:
        """[L]: when the word is said that each token of `tokenize` belongs to (see `token_times`).

        None where words have no times, or the tokenizer does not say where in the text its tokens are.
        """
        if not words or not self._tokenizer.is_fast:
            return None
        offsets = self._tokenizer(
            transcript, truncation=True, max_length=self.config.max_tokens, return_offsets_mapping=True
        )["offset_mapping"]
        return token_times(transcript, cast(list[tuple[int, int]], offsets), words)

    def left_out(self, transcript: str, ids: npt.NDArray[np.int64]) -> tuple[str, ...]:
        """What to say of a transcript of which `tokenize` took only `ids`; nothing where it took all."""
        if len(ids) < self.config.max_tokens:
            return ()
        special = int(self._tokenizer.num_special_tokens_to_add())
        whole = len(cast(list[int], self._tokenizer(transcript, verbose=False)["input_ids"])) - special
        lost = whole - (len(ids) - special)
        if not lost:
            return ()
        return (
            f"The transcript is longer than the text model reads: the last {lost} of its {whole} tokens (words and "
            "parts of words) were left out.",
        )

    def hidden_states(self, tokens: Sequence[npt.NDArray[np.int64]]) -> list[FloatArray]:
        """Last hidden states of each row of ids, run as one padded and masked batch: [L_i] -> float32 [L_i, D].

        Needs the backbone.
        """
        width = max(len(row) for row in tokens)
        ids = torch.full((len(tokens), width), int(self._tokenizer.pad_token_id))
        mask = torch.zeros_like(ids)
        for index, row in enumerate(tokens):
            ids[index, : len(row)] = torch.from_numpy(row)
            mask[index, : len(row)] = 1
        with torch.inference_mode(), autocast(self.device, self.config.precision):
            output = cast(Any, self._model)(input_ids=ids.to(self.device), attention_mask=mask.to(self.device))
            hidden = cast(Tensor, output.last_hidden_state).float().cpu()
        return [rows[: len(row)].numpy() for rows, row in zip(hidden, tokens, strict=True)]

    def hidden_rows(self, tokens: Sequence[npt.NDArray[np.int64]]) -> list[FloatArray]:
        """`hidden_states` of any number of rows of ids, `max_batch_tokens` at a time at most."""
        size = max(1, self.config.max_batch_tokens // max(len(row) for row in tokens))
        batches = (tokens[start : start + size] for start in range(0, len(tokens), size))
        return [of_clip for batch in batches for of_clip in self.hidden_states(batch)]

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        tokens = [self.tokenize(cast(str, clip.transcript)) for clip in media]
        hidden = [None] * len(media) if self._model is None else self.hidden_rows(tokens)
        return self.present(media, tokens, values=tokens, rows=hidden)

    def present(
        self,
        media: Sequence[ClipMedia],
        tokens: Sequence[npt.NDArray[np.int64]],
        *,
        values: Sequence[npt.NDArray[Any]],
        rows: Sequence[FloatArray | None],
    ) -> list[Features]:
        """Features of clips with a transcript, timed by its words, with a warning where not all of it was read.

        Args:
            media: The clips as they were read.
            tokens: What `tokenize` took of each.
            values: Of each, a row or an id per token.
            rows: What is pooled of each; None: nothing is.
        """
        return [
            present_features(
                clip,
                self.view,
                values=of_clip,
                times_s=self.times(cast(str, clip.transcript), clip.words),
                rows=pooled,
                warnings=self.left_out(cast(str, clip.transcript), ids),
            )
            for clip, ids, of_clip, pooled in zip(media, tokens, values, rows, strict=True)
        ]


def no_transcript(clip: ClipMedia) -> str:
    """Why a clip whose text counts as present has none after all, or ""."""
    return "no transcript" if clip.transcript is None else ""


def _load_tokenizer(store: BackboneStore, role: str) -> Any:
    """The role's tokenizer, which belongs to the role's model."""
    from transformers import AutoConfig, AutoTokenizer

    folder = store.folder(role)
    try:
        tokenizer = cast(Any, AutoTokenizer).from_pretrained(folder, local_files_only=True)
        config = cast(Any, AutoConfig).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{folder} has no tokenizer that can be loaded for {role}: {error}") from error
    if wrong := mismatches(tokenizer, config):
        raise BackboneError(
            f"The tokenizer in {folder} does not belong to the model there: its {'; its '.join(wrong)}. Fetch or make "
            f"{role} again, all its files from one place."
        )
    return tokenizer


def mismatches(tokenizer: Any, config: Any) -> list[str]:
    """In what a tokenizer numbers other words than the model was trained on, which would compute, but on nonsense.

    The model has a row for each token, not many more, and knows the special tokens under the same numbers.
    """
    wrong: list[str] = []
    for name in ("pad", "bos", "eos", "cls", "sep"):
        theirs, ours = (getattr(of, f"{name}_token_id", None) for of in (tokenizer, config))
        if isinstance(ours, int) and theirs != ours and (theirs is not None or name == "pad"):
            wrong.append(f"{name} token has the number {theirs}, the model's {ours}")
    rows, tokens = int(config.vocab_size), max(cast(dict[str, int], tokenizer.get_vocab()).values()) + 1
    if not rows - SPARE_ROWS <= tokens <= rows:
        wrong.append(f"tokens are {tokens}, and the model knows {rows}")
    return wrong
