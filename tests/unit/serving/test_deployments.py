"""One replica of each deployment, in this process: batching, and what a bad file or a changed artifact does."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from twominds.artifacts import Card
from twominds.errors import ArtifactError, BackboneError, MediaError
from twominds.media.reader import MediaConfig, MediaReader
from twominds.records import PRESENT, ByteArray, Clip, ClipMedia, Embedding, Failure, Modality
from twominds.scoring.branch import Branch
from twominds.serving.deployments import EncoderReplica, MediaDecoder, ReplicaSettings
from twominds.tasks import AH_VIDEO

SETTINGS = ReplicaSettings(
    ensemble="ensemble",
    models="models",
    device="cpu",
    torch_threads=1,
    max_batch_size=4,
    batch_wait_s=0.05,
    with_pooled=False,
)


def media(clip_id: str) -> ClipMedia:
    return ClipMedia(
        clip_id=clip_id,
        duration_s=1.0,
        scene_frames=None,
        face_crops=None,
        face_detected=None,
        audio=None,
        transcript=None,
        transcript_source="",
        presence=dict.fromkeys(Modality, PRESENT),
    )


class StandInBranch:
    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, media: Sequence[ClipMedia]) -> list[Embedding | Failure]:
        self.batches.append(len(media))
        return [Embedding(clip_id=item.clip_id, view=Modality.FACE, presence=PRESENT) for item in media]


@pytest.fixture
def branch(monkeypatch: pytest.MonkeyPatch) -> StandInBranch:
    branch = StandInBranch()
    card = Card(kind="encoder", artifact_id="as deployed", task=AH_VIDEO, recipe="leya", config={})

    def load(*arguments: Any, **options: Any) -> tuple[StandInBranch, Card]:
        return branch, card

    monkeypatch.setattr(Branch, "load", load)
    # What `serve.batch` asks its replica for: here is none.
    replica = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=100))
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: replica)
    return branch


def test_clips_of_different_requests_share_a_batch(branch: StandInBranch) -> None:
    async def run() -> list[Embedding | Failure]:
        encoder = EncoderReplica(SETTINGS, Modality.FACE, "as deployed")
        return await asyncio.gather(*(encoder.embed(media(str(i))) for i in range(10)))

    assert [result.clip_id for result in asyncio.run(run())] == [str(i) for i in range(10)]
    assert sum(branch.batches) == 10
    assert max(branch.batches) == SETTINGS.max_batch_size


def test_an_encoder_that_changed_since_is_refused(branch: StandInBranch) -> None:
    with pytest.raises(ArtifactError, match="Deploy it again"):
        EncoderReplica(SETTINGS, Modality.FACE, "another")


class StandInReader:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, clip: Clip, *, transcript: str | None, source: ByteArray) -> ClipMedia:
        assert source.tolist() == [7, 8]
        raise self._error


def decode(monkeypatch: pytest.MonkeyPatch, error: Exception) -> object:
    def stand_in(*arguments: Any, **options: Any) -> StandInReader:
        return StandInReader(error)

    monkeypatch.setattr("twominds.media.reader.MediaReader", stand_in)
    decoder = MediaDecoder(SETTINGS, MediaConfig(), tuple(Modality))
    return asyncio.run(decoder.decode("0f8f", np.array([7, 8], np.uint8), None))


def test_a_file_that_is_no_video_is_called_what_the_caller_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = decode(monkeypatch, MediaError("0f8f is not a video that can be read."))
    assert failure == Failure(
        clip_id="0f8f", stage="decode", reason="The uploaded file is not a video that can be read."
    )


def test_a_file_that_breaks_the_decoder_is_the_file_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = decode(monkeypatch, ValueError("inside"))
    assert isinstance(failure, Failure)
    assert "damaged" in failure.reason
    assert "inside" not in failure.reason


def test_a_backbone_that_is_missing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError):
        decode(monkeypatch, BackboneError("No weights."))


@pytest.mark.parametrize("keeps_video", [False, True])
def test_an_upload_travels_on_where_an_encoder_reads_it(monkeypatch: pytest.MonkeyPatch, keeps_video: bool) -> None:
    class Reader:
        def read(self, clip: Clip, *, transcript: str | None, source: ByteArray) -> ClipMedia:
            return replace(media(clip.clip_id), video=source)

    def stand_in(*_: object) -> Reader:
        return Reader()

    monkeypatch.setattr("twominds.media.reader.MediaReader", stand_in)
    decoder = MediaDecoder(SETTINGS, MediaConfig(), tuple(Modality), AH_VIDEO, keeps_video)
    video = np.array([7, 8], np.uint8)
    decoded = asyncio.run(decoder.decode("0f8f", video, None))
    assert isinstance(decoded, ClipMedia)
    assert decoded.video is (video if keeps_video else None)


def test_the_stand_in_reads_as_the_reader_does() -> None:
    parameters = MediaReader.read.__annotations__
    assert {"clip", "transcript", "source"} <= set(parameters)
