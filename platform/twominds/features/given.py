"""Vectors that come with the clips, made by models elsewhere (HSEmotion's OpenAI and GigaChat embeddings)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.extractor import extract_where, present_features
from twominds.records import PRESENT, ClipMedia, Features, Modality, View, absent

_NAME = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class GivenVectorsConfig:
    """A vector of each clip that the corpus brings, for a view of any modality: no backbone."""

    kind: Literal["given"] = "given"
    """Tells it from the other features of its modality in JSON."""
    name: str
    """Whose: such as `openai`, of the corpus's column `vector.openai`."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"The name of given vectors is of a-z, 0-9, _ and -, not {self.name!r}.")


class GivenVectors:
    """`Clip.vectors` -> `values` float32 [1, D]; `pooled` [2 * D], if asked for: the vector, and zeros.

    The view is there where the vector is, whatever the file holds: text needs no transcript. A vector has no times.
    """

    view: View = Modality.TEXT

    def __init__(
        self, config: GivenVectorsConfig, store: BackboneStore, device: str = "cpu", with_pooled: bool = False
    ) -> None:
        del store, device  # as every extractor takes them; there is nothing to load
        self._name, self._pooled = config.name, with_pooled

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """The vector of each clip as one row; see `FeatureExtractor.extract`."""
        lacking = absent(f"there is no vector.{self._name} for it")
        presences = [PRESENT if self._name in clip.vectors else lacking for clip in media]
        return extract_where(media, self.view, presences, self._extract)

    def _extract(self, media: list[ClipMedia]) -> list[Features]:
        values = [clip.vectors[self._name][None] for clip in media]
        return [
            present_features(clip, self.view, values=rows, times_s=None, rows=rows if self._pooled else None)
            for clip, rows in zip(media, values, strict=True)
        ]
