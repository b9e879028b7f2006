"""The HTTP interface with a stand-in for the service behind it."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from twominds.records import ByteArray
from twominds.serving.answers import EXAMPLE, ModelAnswer, ScoreAnswer
from twominds.serving.api import create_api

MAX_BYTES = 3 << 20
MODEL = ModelAnswer(
    artifact_id="3f2a9c51b7d0",
    task="ah-video",
    output="classes",
    unit="clip",
    classes=["no_ah", "ah"],
    recipe="leya",
    weights="debug",
    seeds=[42, 2025],
    members=["42", "2025"],
    modalities=[],
    threshold=0.5,
    decision=[],
    selected_on="validation",
    metrics={},
    data={},
    backbones=[],
    versions={},
    created="2025-01-01T00:00:00+00:00",
    limits={"max_upload_mib": 3},
)


class StandIn:
    """Keeps what it is given; answers, refuses, breaks or waits."""

    def __init__(self) -> None:
        self.model = MODEL
        self.videos: list[bytes] = []
        self.transcripts: list[str | None] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def score(self, clip_id: str, video: ByteArray, transcript: str | None, started_s: float) -> ScoreAnswer:
        self.videos.append(video.tobytes())
        self.transcripts.append(transcript)
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return ScoreAnswer.model_validate(EXAMPLE | {"clip_id": clip_id})

    async def ready(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def api(service: StandIn) -> FastAPI:
    return create_api(service, max_upload_bytes=MAX_BYTES, max_requests=2)


@pytest.fixture
def client(api: FastAPI) -> Iterator[TestClient]:
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client
