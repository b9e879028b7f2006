"""The replicas behind the ingress: the three parts of `scoring/`, each in processes of its own.

Every replica works in one thread, so that what it loaded is never used twice at once, and its event loop stays free
to collect the next batch and to answer pings. What is heavy is imported by the replica that needs it.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ray import serve

from twominds.errors import ArtifactError, MediaError, TwomindsError
from twominds.records import ByteArray, Clip, ClipMedia, Embedding, Failure, Score, View
from twominds.tasks import AH_VIDEO, Task

if TYPE_CHECKING:
    from twominds.artifacts import Card
    from twominds.media.reader import MediaConfig

logger = logging.getLogger("ray.serve")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReplicaSettings:
    """What a replica needs to load its part."""

    ensemble: str
    """Folder of the ensemble artifact."""
    models: str
    """The bundle of backbones."""
    device: str
    """Where the models run."""
    torch_threads: int
    """Threads of the decoder and of each encoder; 0: all cores, and half of them."""
    max_batch_size: int
    """Clips that a model sees at once."""
    batch_wait_s: float
    """How long the first clip of a batch waits for others."""
    with_pooled: bool
    """Whether the fusion takes `pooled` features; else no encoder makes them."""


class Replica:
    """Base of the deployments: one working thread, torch held to its share of the cores."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def ping(self) -> None:
        """Answers, and so says that this replica has loaded and lives."""

    async def _work(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(*arguments)` in the replica's one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


class MediaDecoder(Replica):
    """A file's bytes become frames, faces, sound and words."""

    def __init__(
        self,
        settings: ReplicaSettings,
        config: "MediaConfig",
        views: Sequence[View],
        task: Task = AH_VIDEO,
        keeps_video: bool = False,
    ) -> None:
        """Loads the face detector, where the ensemble looks at faces.

        Args:
            settings: The settings that all replicas share.
            config: How clips are read.
            views: What the ensemble looks at.
            task: What it recognises.
            keeps_video: Whether an encoder reads the video itself: only then does it travel on.
        """
        super().__init__(settings.torch_threads or _cores())
        from twominds.backbones import BackboneStore
        from twominds.media.reader import MediaReader

        self._reader = MediaReader(config, BackboneStore(uri=settings.models), settings.device, views, task)
        self._keeps_video = keeps_video

    async def decode(self, clip_id: str, video: ByteArray, transcript: str | None) -> ClipMedia | Failure:
        """The decoded clip, or why there is none. `video` is the file; no copy of it is made on disk.

        By value: a reference inside an answer of Serve is not safe (see `RayScoringService`).
        """
        return await self._work(self._decode, clip_id, video, transcript)

    def _decode(self, clip_id: str, video: ByteArray, transcript: str | None) -> ClipMedia | Failure:
        try:
            media = self._reader.read(Clip(clip_id=clip_id, video_uri=""), transcript=transcript, source=video)
            return media if self._keeps_video else replace(media, video=None)
        except MediaError as error:
            return Failure(clip_id=clip_id, stage="decode", reason=str(error).replace(clip_id, "The uploaded file"))
        except TwomindsError:
            raise  # a backbone that is missing is the service's fault, not the file's
        except Exception as error:  # anything may lurk in a damaged file
            logger.exception("clip %s could not be decoded", clip_id)
            reason = f"The uploaded file could not be processed ({type(error).__name__}); it seems to be damaged."
            return Failure(clip_id=clip_id, stage="decode", reason=reason)


class EncoderReplica(Replica):
    """The frozen backbone and the trained encoder of one modality; batches across requests."""

    def __init__(
        self, settings: ReplicaSettings, view: View, artifact_id: str, media: "MediaConfig | None" = None
    ) -> None:
        """Loads both, and checks that the encoder is the one of the ensemble that was deployed."""
        super().__init__(settings.torch_threads or max(1, _cores() // 2))
        from twominds.backbones import BackboneStore
        from twominds.scoring.branch import Branch
        from twominds.scoring.scorer import encoder_uri

        uri = encoder_uri(settings.ensemble, view)
        store = BackboneStore(uri=settings.models)
        self._branch, card = Branch.load(
            uri, store, device=settings.device, with_pooled=settings.with_pooled, media=media
        )
        _check_unchanged(card, artifact_id, uri)
        _set_batching(self.embed_batch, settings)

    async def embed(self, media: ClipMedia) -> Embedding | Failure:
        """What the encoder says of one clip."""
        return await self.embed_batch(media)

    @serve.batch
    async def embed_batch(self, media: list[ClipMedia]) -> list[Embedding | Failure]:
        """What it says of the clips that came together."""
        return await self._work(self._branch.embed, media)


class EnsembleModel(Replica):
    """The fusion models of all seeds, and the decision."""

    def __init__(self, settings: ReplicaSettings, artifact_id: str) -> None:
        """Loads them, and checks that they are those that were deployed."""
        super().__init__(1)  # small matrices
        from twominds.scoring.ensemble import Ensemble

        self._ensemble = Ensemble.load(settings.ensemble)
        _check_unchanged(self._ensemble.card, artifact_id, settings.ensemble)
        _set_batching(self.score_batch, settings)

    async def score(self, *embeddings: Embedding) -> Score | Failure:
        """The score of one clip, of which all modalities' embeddings are given, absent ones too."""
        return await self.score_batch({embedding.view: embedding for embedding in embeddings})

    @serve.batch
    async def score_batch(self, clips: list[dict[View, Embedding]]) -> list[Score | Failure]:
        """The scores of the clips that came together."""
        return await self._work(partial(self._ensemble.score, explain=True), clips)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _set_batching(method: Any, settings: ReplicaSettings) -> None:
    method.set_max_batch_size(settings.max_batch_size)
    method.set_batch_wait_timeout_s(settings.batch_wait_s)


def _check_unchanged(card: "Card", artifact_id: str, uri: str) -> None:
    """A replica that starts late must not bring in an artifact that was written after the others loaded theirs."""
    if card.artifact_id != artifact_id:
        raise ArtifactError(
            f"The artifact at {uri} is now {card.artifact_id}; the service was deployed with {artifact_id}. "
            "Deploy it again (stop `serve run` and start it) to serve the new one."
        )
