"""The actors that run trained models: encoders and the ensemble. See `stages.py` for the plumbing."""

from collections.abc import Sequence

import pyarrow as pa

from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder
from twominds.encoders.embedding import embed
from twominds.media.reader import MediaConfig
from twominds.pipelines.stages import add_outcomes, media_of, rows_of
from twominds.records import Embedding, Failure, Features, View
from twominds.results import score_rows, tables
from twominds.results.tables import Row
from twominds.scoring.branch import Branch
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.isolation import isolate


class EmbedMedia:
    """The frozen backbone and the trained encoder of one view."""

    def __init__(
        self,
        view: View,
        encoder_uri: str,
        store: BackboneStore,
        device: str,
        with_pooled: bool,
        media: MediaConfig,
    ) -> None:
        """Loads both; the backbone only where it is needed, such as for a fusion that takes `pooled` features."""
        self._view = view
        self._branch, _ = Branch.load(encoder_uri, store, device=device, with_pooled=with_pooled, media=media)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the view's embedding columns."""
        rows = rows_of(table)
        outcomes = [_row(outcome) for outcome in self._branch.embed(media_of(rows))]
        return add_outcomes(table, rows, outcomes, tables.embedding_fields(self._view))


class EmbedFeatures:
    """The trained encoder of one view, over features made before."""

    def __init__(self, view: View, encoder_uri: str, device: str) -> None:
        """Loads the encoder."""
        self._view = view
        self._encoder = load_encoder(encoder_uri)[0].to(device)
        self._device = device

    def __call__(self, table: pa.Table) -> pa.Table:
        """Adds the view's embedding columns and drops its features, which they replace."""
        table = tables.of_today(table)
        rows = rows_of(table)
        features = [tables.features_from_row(row, self._view) for row in rows if not row.get("error")]
        outcomes = isolate(self._embed, features, stage=f"encoders.{self._view}")
        table = add_outcomes(table, rows, outcomes, tables.embedding_fields(self._view))
        return table.drop_columns([f"{self._view}_values"])

    def _embed(self, features: Sequence[Features]) -> list[Row]:
        embeddings = embed(self._encoder, features, batch_size=max(1, len(features)), device=self._device)
        return [tables.embedding_to_row(embedding) for embedding in embeddings]


class ScoreEmbeddings:
    """Scores clips by their embeddings with an ensemble."""

    def __init__(self, ensemble_uri: str) -> None:
        """Loads the seed models."""
        self._ensemble = Ensemble.load(ensemble_uri)

    def __call__(self, table: pa.Table) -> pa.Table:
        """See `with_scores`."""
        return with_scores(table, self._ensemble)


def with_scores(table: pa.Table, ensemble: Ensemble) -> pa.Table:
    """The rows of clips with the columns of `score_rows.SCORE_FIELDS` added; what can't be scored says why."""
    rows = rows_of(table)
    views = ensemble.config.views
    clips = [{m: tables.embedding_from_row(row, m) for m in views} for row in rows if not row.get("error")]
    outcomes = [
        s if isinstance(s, Failure) else score_rows.score_to_row(s) for s in ensemble.score(clips, explain=True)
    ]
    return add_outcomes(table, rows, outcomes, score_rows.SCORE_FIELDS)


def _row(outcome: Embedding | Failure) -> Row | Failure:
    return outcome if isinstance(outcome, Failure) else tables.embedding_to_row(outcome)
