"""One modality's way from a decoded clip to its embedding: frozen features, then the trained encoder."""

from collections.abc import Sequence

from twominds.artifacts import Card, from_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import check_backbones, load_encoder
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import Encoder
from twominds.errors import ArtifactError
from twominds.features.catalog import FeatureExtractor, build_extractor, features_from_json
from twominds.media.reader import MediaConfig
from twominds.records import ClipMedia, Embedding, Failure, View
from twominds.scoring.isolation import isolate


class Branch:
    """Feature extractor and encoder of one modality, on one device."""

    def __init__(self, extractor: FeatureExtractor, encoder: Encoder, *, device: str = "cpu") -> None:
        """Takes both parts as they are; see `load` for the usual way."""
        self.view: View = extractor.view
        self._extractor = extractor
        self._encoder = encoder.to(device).eval()
        self._device = device

    @classmethod
    def load(
        cls,
        encoder_uri: str,
        store: BackboneStore,
        *,
        artifact_id: str = "",
        device: str = "cpu",
        with_pooled: bool,
        media: MediaConfig | None = None,
    ) -> tuple["Branch", Card]:
        """The branch of the encoder artifact at `encoder_uri`, with the features it was trained on.

        Args:
            encoder_uri: Folder of the artifact.
            store: Has its backbone.
            artifact_id: Of the encoder that the ensemble was made with; "": any will do.
            device: Where both compute.
            with_pooled: Whether the fusion takes `pooled` features; else none are made.
            media: How the clips are read; None: as in the encoder's training.

        Raises:
            ArtifactError: there is no such artifact, it was changed since it was saved, or it is another.
            BackboneError: the bundle has not the backbone that it needs, or another one under its name.
        """
        encoder, card = load_encoder(encoder_uri)
        if artifact_id:
            check_encoder(card, artifact_id, encoder_uri)
        check_backbones(card, store)
        features = features_from_json(card.config["features"])[encoder.view]
        if media is None and "media" in card.config:
            media = from_json(MediaConfig, card.config["media"])
        extractor = build_extractor(encoder.view, features, store, device=device, with_pooled=with_pooled, media=media)
        return cls(extractor, encoder, device=device), card

    def embed(self, media: Sequence[ClipMedia]) -> list[Embedding | Failure]:
        """One embedding per clip, in order; absent stays absent, a clip that fails is a failure of its own."""

        def work(batch: Sequence[ClipMedia]) -> list[Embedding]:
            return embed(self._encoder, self._extractor.extract(batch), batch_size=len(batch), device=self._device)

        return isolate(work, media, stage=f"features.{self.view}")


def check_encoder(card: Card, artifact_id: str, uri: str) -> None:
    """Refuses an encoder other than the one that an ensemble was made with: the fusion knows nothing of its vectors.

    Raises:
        ArtifactError: the encoder at `uri`, whose card this is, is not `artifact_id`.
    """
    if card.artifact_id != artifact_id:
        raise ArtifactError(
            f"The encoder at {uri} is {card.artifact_id}, and the ensemble was made with {artifact_id}. Copy the whole "
            "ensemble again: its encoders travel with it."
        )
