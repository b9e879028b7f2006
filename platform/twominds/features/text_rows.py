"""Text, token by token: what a frozen text model makes of each, for encoders that ask about moments (HSEmotion)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from twominds.backbones import BackboneStore
from twominds.features.extractor import extract_present
from twominds.features.text import TextFeatures, TokenizedTextConfig, no_transcript
from twominds.records import ClipMedia, Features


@dataclass(frozen=True, kw_only=True)
class TextRowsFeaturesConfig(TokenizedTextConfig):
    """A row for each token from the frozen text backbone, and whether moments are asked about by time."""

    kind: Literal["rows"] = "rows"
    """Tells it from the other text features in JSON."""
    backbone: str = "text.roberta_go_emotions"
    """Role of a BERT-like encoder in the bundle."""
    max_tokens: int = 512
    """Longer transcripts are cut here, special tokens included."""
    timed: bool = True
    """Whether a transcript whose words have no times is of no use. Encoders that meet rows by position need none."""


class TextRowsFeatures(TextFeatures):
    """Transcript -> `values` float32 [L, D], the last hidden state of every token, special ones included.

    `times_s` are when each token's word is said. `pooled`, if asked for, is their [mean; std].
    """

    def __init__(
        self, config: TextRowsFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        super().__init__(config, store, device, with_pooled=True)
        self._timed, self._pooled = config.timed, with_pooled

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """Rows of each clip's tokens, in order; words without times count as absent where moments are asked by time."""
        return extract_present(media, self.view, self._missing, self._extract)

    def _missing(self, clip: ClipMedia) -> str:
        untimed = self._timed and not clip.words
        return no_transcript(clip) or ("nobody knows when its words are said" if untimed else "")

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        tokens = [self.tokenize(cast(str, clip.transcript)) for clip in media]
        rows = self.hidden_rows(tokens)
        return self.present(media, tokens, values=rows, rows=rows if self._pooled else [None] * len(media))
