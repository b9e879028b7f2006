"""From an upload to the answer, over the deployments: decode, four encoders side by side, the ensemble.

What is large (the file, the decoded media) lies in Ray's object store and is passed on by reference.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from math import isnan
from statistics import pstdev
from typing import Any, TypeVar, cast

import ray
from fastapi import FastAPI
from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from twominds.records import ByteArray, ClipMedia, Embedding, Failure, Score, Timeline, View
from twominds.serving.answers import (
    ContributionsAnswer,
    DurationsAnswer,
    ModalityAnswer,
    ModelAnswer,
    ScoreAnswer,
    SeedAnswer,
    SegmentAnswer,
    TimelineAnswer,
)
from twominds.serving.api import create_api
from twominds.serving.problems import ProblemError, overloaded

logger = logging.getLogger("ray.serve")
T = TypeVar("T")

REPLICA_LOST = (RayActorError, ObjectLostError, WorkerCrashedError, ReplicaUnavailableError)
"""What a replica that dies leaves behind: its callers' errors, and the loss of the media it had decoded."""
PING_TIMEOUT_S = 10.0
DEBUG_WARNING = "The weights are debug ones (seeded random numbers): this score means nothing."


class RayScoringService:
    """The `ScoringService` over deployment handles.

    Every object of a request is owned here: the file is put into the store here, and the media are the decoder's
    answer, handed to the encoders as what they are. An `ObjectRef` that a replica had put and answered with would
    be owned there; Serve's answers are items of a generator, and on a busy machine Ray 2.60 frees what such an item
    refers to before its reader has said that it holds it (`ReferenceCountingAssertionError`; Ray's issue 58080).
    """

    def __init__(
        self,
        model: ModelAnswer,
        decoder: DeploymentHandle[Any],
        encoders: Mapping[View, DeploymentHandle[Any]],
        ensemble: DeploymentHandle[Any],
    ) -> None:
        """Takes the card and a handle of each part; the encoders in the order of the ensemble's modalities."""
        self.model = model
        # By reference whatever the cluster's default: by value, every file would pass through the ingress again.
        self._decoder = decoder.options(_by_reference=True)
        self._encoders = {view: handle.options(_by_reference=True) for view, handle in encoders.items()}
        self._ensemble = ensemble

    async def ready(self) -> None:
        """See `ScoringService`."""
        handles = {"decoder": self._decoder, "ensemble": self._ensemble} | {
            f"{view} encoder": handle for view, handle in self._encoders.items()
        }
        answers = await asyncio.gather(*(_answers(handle) for handle in handles.values()))
        silent = [name for name, answered in zip(handles, answers, strict=True) if not answered]
        if silent:
            raise overloaded(f"Not ready: no answer from the {', the '.join(silent)}.")

    async def score(self, clip_id: str, video: ByteArray, transcript: str | None, started_s: float) -> ScoreAnswer:
        """See `ScoringService`. A request whose replica dies is done once more: scoring leaves no traces."""
        uploaded_s = time.perf_counter()
        # In the object store from here on, for the decoder on whichever node; freed with this reference.
        stored = await asyncio.to_thread(_put, video)
        try:
            async with asyncio.timeout(self.model.limits["timeout_s"]):
                try:
                    outcome = await self._run(clip_id, stored, transcript)
                except REPLICA_LOST as error:
                    logger.warning("clip %s: a replica was lost (%s), trying again", clip_id, type(error).__name__)
                    outcome = await self._run(clip_id, stored, transcript)
        except REPLICA_LOST as error:
            logger.error("clip %s: a replica was lost again (%s)", clip_id, type(error).__name__)
            raise overloaded("A part of the service died, twice, while it worked on this clip.") from error
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise overloaded("A part of the service has more to do than it takes, or is not there.") from error
        except TimeoutError as error:
            raise overloaded(f"No score within {self.model.limits['timeout_s']:g} s.") from error
        media, score, durations = outcome
        total_s = time.perf_counter() - started_s
        logger.info("clip %s scored in %.3f s", clip_id, total_s)
        return self._answer(media, score, DurationsAnswer(upload=uploaded_s - started_s, total=total_s, **durations))

    async def _run(
        self, clip_id: str, video: "ray.ObjectRef[ByteArray]", transcript: str | None
    ) -> tuple[ClipMedia, Score, dict[str, Any]]:
        """One pass through the deployments; raises what the client must be told."""
        decoding = self._decoder.decode.remote(clip_id, video, transcript)
        decoded, decode_s = await _timed(decoding)
        media = cast(ClipMedia, _checked(decoded))
        encoded = await asyncio.gather(*(_timed(handle.embed.remote(decoding)) for handle in self._encoders.values()))
        embeddings = [cast(Embedding, _checked(embedding)) for embedding, _ in encoded]
        score, fusion_s = await _timed(self._ensemble.score.remote(*embeddings))
        encoders_s = {view: seconds for view, (_, seconds) in zip(self._encoders, encoded, strict=True)}
        durations = {"decode": decode_s, "encoders": encoders_s, "fusion": fusion_s}
        return media, cast(Score, _checked(score)), durations

    def _answer(self, media: ClipMedia, score: Score, durations: DurationsAnswer) -> ScoreAnswer:
        names, of_intensities = self.model.classes, self.model.output == "intensities"
        binary = not of_intensities and len(names) == 2
        return ScoreAnswer(
            clip_id=score.clip_id,
            task=self.model.task,
            label=None if score.label is None else names[score.label],
            label_index=score.label,
            probability=score.probabilities[-1] if binary else None,
            threshold=score.threshold if binary else None,
            classes=None if of_intensities else by_name(names, score.probabilities),
            intensities=by_name(names, score.probabilities) if of_intensities else None,
            contributions=contributions_answer(names, score),
            timeline=timeline_answer(names, score.timeline),
            abstains=score.abstains,
            seeds=seed_answer(self.model.members, score.seed_probabilities) if binary else None,
            modalities={
                part.view: ModalityAnswer(
                    present=part.presence.present, reason=part.presence.reason or None, probability=part.probability
                )
                for part in score.views
            },
            transcript_source=media.transcript_source or None,
            duration_s=media.duration_s,
            durations_s=durations,
            artifact_id=score.artifact_id,
            recipe=self.model.recipe,
            weights=score.weights,
            warnings=[*([DEBUG_WARNING] if score.weights == "debug" else []), *score.warnings],
        )


class Ingress:
    """The deployment that speaks HTTP."""

    def __init__(
        self,
        model: ModelAnswer,
        decoder: DeploymentHandle[Any],
        encoders: Mapping[View, DeploymentHandle[Any]],
        ensemble: DeploymentHandle[Any],
    ) -> None:
        """Takes what `RayScoringService` takes; the limits are those of the card."""
        self._service = RayScoringService(model, decoder, encoders, ensemble)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by `serve.ingress` in the replica."""
        limits = self._service.model.limits
        return create_api(
            self._service,
            max_upload_bytes=int(limits["max_upload_mib"] * (1 << 20)),
            max_requests=int(limits["max_requests"]),
        )


def seed_answer(members: Sequence[str], probabilities: Sequence[float]) -> SeedAnswer:
    """The spread of the models; those that see nothing of the clip (NaN) say nothing."""
    said = {name: p for name, p in zip(members, probabilities, strict=True) if not isnan(p)}
    return SeedAnswer(probabilities=said, std=pstdev(said.values()), min=min(said.values()), max=max(said.values()))


def by_name(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Values under the names of the outputs; of the last one alone where there is one value."""
    return dict(zip(names[-len(values) :], values, strict=True))


def contributions_answer(names: Sequence[str], score: Score) -> ContributionsAnswer | None:
    """What the score is made of."""
    found = score.contributions
    if found is None:
        return None
    return ContributionsAnswer(
        prior=by_name(names, found.prior),
        modalities={modality: by_name(names, values) for modality, values in found.by_modality.items()},
        opposed=None if found.opposed is None else list(found.opposed),
        interaction=found.interaction,
    )


def timeline_answer(names: Sequence[str], timeline: Timeline | None) -> TimelineAnswer | None:
    """What is said of each moment; times in milliseconds and outputs to a ten-thousandth, for there are many."""
    if timeline is None:
        return None
    return TimelineAnswer(
        times_s=timeline.points_s.round(3).tolist(),
        outputs={name: timeline.outputs[:, i].round(6).tolist() for i, name in enumerate(names)},
        segments=[
            SegmentAnswer(
                start_s=round(segment.start_s, 3),
                end_s=round(segment.end_s, 3),
                label=names[segment.label],
                probability=segment.probability,
            )
            for segment in timeline.segments
        ],
    )


def _put(video: ByteArray) -> "ray.ObjectRef[ByteArray]":
    return ray.put(video)


async def _timed(response: Awaitable[Any]) -> tuple[Any, float]:
    """What a call answers, and the seconds until it does."""
    started_s = time.perf_counter()
    return await response, time.perf_counter() - started_s


async def _answers(handle: DeploymentHandle[Any]) -> bool:
    """Whether a replica of the deployment answers a ping."""
    try:
        await asyncio.wait_for(_awaited(handle.ping.remote()), PING_TIMEOUT_S)
    except (TimeoutError, *REPLICA_LOST, BackPressureError, DeploymentUnavailableError):
        return False
    return True


async def _awaited(response: Awaitable[T]) -> T:
    return await response


def _checked(outcome: Any) -> Any:
    """The outcome of a stage unless it is a failure.

    Raises:
        ProblemError: 422 where the clip is to blame, 500 where a model is.
    """
    if not isinstance(outcome, Failure):
        return outcome
    if outcome.stage in ("decode", "fusion"):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, outcome.reason, stage=outcome.stage)
    logger.error("clip %s failed in %s: %s", outcome.clip_id, outcome.stage, outcome.reason)
    detail = f"The {outcome.stage.rpartition('.')[2]} encoder failed on this clip; the log says why."
    raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail, stage=outcome.stage)
