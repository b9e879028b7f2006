"""THE one path from a clip to a score: evaluation, batch scoring and the HTTP service all go through these parts.

    MediaReader.read_many ─▶ Branch.embed (one per modality) ─▶ Ensemble.score

`Scorer` runs them in one process. The pipelines and the service run the same three parts in processes of their own.
"""

from collections.abc import Mapping, Sequence

from twominds import artifacts
from twominds.artifacts import Card
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import check_backbones
from twominds.errors import ArtifactError
from twominds.media.reader import MediaReader
from twominds.records import Clip, Embedding, Failure, Score, View
from twominds.scoring.branch import Branch, check_encoder
from twominds.scoring.ensemble import Ensemble
from twominds.workspace import Workspace


class Scorer:
    """Reads, encodes and scores clips in this process."""

    def __init__(self, reader: MediaReader, branches: Mapping[View, Branch], ensemble: Ensemble) -> None:
        """Takes the loaded parts; see `load` for the usual way."""
        self._reader = reader
        self._branches = branches
        self.ensemble = ensemble

    @classmethod
    def load(cls, ensemble_uri: str, store: BackboneStore | None = None, *, device: str = "cpu") -> "Scorer":
        """Everything that the ensemble at `ensemble_uri` needs.

        Args:
            ensemble_uri: The artifact's folder.
            store: Where the backbones are; by default the workspace's bundle.
            device: Where to compute.

        Raises:
            ArtifactError: the ensemble or one of its encoders is missing, was changed, or does not fit.
            BackboneError: the bundle has not all the backbones, or others than those of the training.
        """
        store = store or BackboneStore(uri=Workspace.default().models)
        ensemble = Ensemble.load(ensemble_uri)
        config = ensemble.config
        branches: dict[View, Branch] = {}
        for view in config.views:
            branches[view], _ = Branch.load(
                encoder_uri(ensemble_uri, view),
                store,
                artifact_id=ensemble.encoder_id(view),
                device=device,
                with_pooled=config.takes_pooled,
                media=config.media,
            )
        reader = MediaReader(config.media, store, device, config.views, ensemble.card.task)
        return cls(reader, branches, ensemble)

    def score(self, clips: Sequence[Clip]) -> list[Score | Failure]:
        """One score or failure per clip, in order."""
        media = self._reader.read_many(clips)
        readable = [item for item in media if not isinstance(item, Failure)]
        results: dict[int, Score | Failure] = {}
        embedded = [self._branches[view].embed(readable) for view in self.ensemble.config.views]
        per_clip = iter(zip(*embedded, strict=True))
        complete: list[tuple[int, dict[View, Embedding]]] = []
        for i, item in enumerate(media):
            if isinstance(item, Failure):
                results[i] = item
                continue
            gathered = gather(next(per_clip))
            if isinstance(gathered, Failure):
                results[i] = gathered
            else:
                complete.append((i, gathered))
        scores = self.ensemble.score([embeddings for _, embeddings in complete])
        results.update({i: score for (i, _), score in zip(complete, scores, strict=True)})
        return [results[i] for i in range(len(clips))]


def check_ensemble(ensemble_uri: str, store: BackboneStore) -> Card:
    """What loading would find wrong, for whoever has other processes load the parts: nothing starts in vain.

    Every file of the ensemble and, of a local bundle, every file that it needs is read once: seconds for full-size
    models.

    Returns:
        The ensemble's card.

    Raises:
        ArtifactError: the ensemble or one of its encoders is missing, was changed since it was saved, or is another.
        BackboneError: the bundle has not all the backbones, or others than those of the training.
    """
    card, _ = artifacts.verified(ensemble_uri)
    if card.kind != "ensemble":
        raise ArtifactError(f"The artifact at {ensemble_uri} is an {card.kind}, not an ensemble.")
    check_backbones(card, store)
    for view, artifact_id in card.architecture["encoders"].items():
        uri = encoder_uri(ensemble_uri, view)
        encoder, _ = artifacts.verified(uri)
        check_encoder(encoder, artifact_id, uri)
        check_backbones(encoder, store)
    return card


def encoder_uri(ensemble_uri: str, view: View) -> str:
    """Where an ensemble keeps the encoder of a view."""
    return f"{ensemble_uri.rstrip('/')}/encoders/{view}"


def gather(outcomes: Sequence[Embedding | Failure]) -> dict[View, Embedding] | Failure:
    """One clip's embeddings by modality, or the first failure among them."""
    embeddings: dict[View, Embedding] = {}
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            return outcome
        embeddings[outcome.view] = outcome
    return embeddings
