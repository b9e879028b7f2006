"""Text, one vector of the whole transcript: the mean of a sentence encoder's tokens (HSEmotion, section 2).

What HSEmotion takes, as sentence-transformers makes it: `text.sentence_distilroberta` (its "SentenceBERT", of which all
that is known is a comment that names distilroberta-base; such a model gets a mean over its tokens, which is not
normalised), `text.all_minilm_v1` (cut at 128 tokens, normalised; `text.all_minilm` is version 2) and `text.e5_base`
(normalised; HSEmotion writes no `query: ` before the words).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from twominds.backbones import BackboneStore
from twominds.features.text import TextFeatures, TokenizedTextConfig
from twominds.records import ClipMedia, Features, FloatArray, Times, Word


@dataclass(frozen=True, kw_only=True)
class SentenceFeaturesConfig(TokenizedTextConfig):
    """One vector for each transcript from a frozen sentence encoder."""

    kind: Literal["sentence"] = "sentence"
    """Tells it from the other text features in JSON."""
    backbone: str = "text.sentence_distilroberta"
    """Role of a BERT-like encoder in the bundle (`text.e5_base` is another)."""
    max_tokens: int = 512
    """Longer transcripts are cut here, special tokens included."""
    normalize: bool = False
    """Whether vectors are brought to length 1, as those of E5 and all-MiniLM are where they are published."""


class SentenceFeatures(TextFeatures):
    """Transcript -> `values` float32 [1, D], the mean of the last hidden states of all tokens, special ones included.

    It is of the whole clip and has no times. `pooled`, if asked for, is [mean; std] of the tokens, never normalised.
    """

    def __init__(
        self, config: SentenceFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        super().__init__(config, store, device, with_pooled=True)
        self._normalize, self._pooled = config.normalize, with_pooled

    def times(self, transcript: str, words: Sequence[Word] | None) -> Times | None:
        """None: what is said of a whole transcript is said at no moment."""
        del transcript, words

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        tokens = [self.tokenize(cast(str, clip.transcript)) for clip in media]
        rows = self.hidden_rows(tokens)
        values = [sentence_vector(of_clip, normalize=self._normalize)[None] for of_clip in rows]
        return self.present(media, tokens, values=values, rows=rows if self._pooled else [None] * len(media))


def sentence_vector(rows: FloatArray, *, normalize: bool) -> FloatArray:
    """The mean of the rows of tokens [L, D] -> float32 [D], brought to length 1 if `normalize`."""
    mean = rows.astype(np.float64).mean(axis=0)
    if normalize:
        mean /= max(float(np.linalg.norm(mean)), 1e-12)  # torch's own least length
    return mean.astype(np.float32)
