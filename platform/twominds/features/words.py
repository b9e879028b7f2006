"""Text as it was said: the words themselves, for encoders that count them (LEYA, section 3.4; Table 1 rows 4 and 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twominds.backbones import BackboneStore
from twominds.features.extractor import extract_present
from twominds.features.text import no_transcript
from twominds.records import PRESENT, ByteArray, ClipMedia, Features, Modality, View


@dataclass(frozen=True, kw_only=True)
class WordsFeaturesConfig:
    """The transcript itself: no tokenizer, no backbone. It is personal, and so are features that hold it."""

    kind: Literal["words"] = "words"
    """Tells it from the other text features in JSON."""


class WordsFeatures:
    """Transcript -> `values` uint8 [N], its UTF-8 bytes (`words_of` reads them); nothing is `pooled`.

    An empty transcript that media calls present is a single space: present features are never without values. What
    UTF-8 can't hold (a lone surrogate) becomes a question mark. Bytes have no times.
    """

    view: View = Modality.TEXT

    def __init__(
        self, config: WordsFeaturesConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        del config, store, device, with_pooled  # as every extractor takes them; there is nothing to set or load

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`."""
        return extract_present(media, self.view, no_transcript, self._extract)

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        return [
            Features(clip_id=clip.clip_id, view=self.view, presence=PRESENT, values=_bytes(clip.transcript or ""))
            for clip in media
        ]


def words_of(values: ByteArray) -> str:
    """The transcript behind the `values` of words features."""
    return values.tobytes().decode("utf-8")


def _bytes(transcript: str) -> ByteArray:
    return np.frombuffer(transcript.encode("utf-8", errors="replace") or b" ", dtype=np.uint8)
