"""The HTTP interface with a stand-in behind it: limits, errors, documents. No Ray."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from twominds.serving.answers import ScoreAnswer
from twominds.serving.problems import MEDIA_TYPE, ProblemError, overloaded
from twominds.serving.uploads import FORM_ALLOWANCE_BYTES

if TYPE_CHECKING:
    from tests.unit.serving.conftest import StandIn

MAX_BYTES = 3 << 20  # of the interface in conftest.py


class Response(Protocol):
    """Of httpx, and of the fork of it that Starlette's test client brings."""

    @property
    def status_code(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def json(self) -> Any: ...


def check_problem(answer: Response, status: HTTPStatus, *words: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["detail"].endswith((".", "score"))
    for word in words:
        assert word in problem["detail"]
    return problem


def test_the_bytes_arrive_as_they_were_sent(client: TestClient, service: "StandIn") -> None:
    small, spooled = b"\x00\xff\n\r" * 5, bytes(range(256)) * 5000  # in memory, and past Starlette's 1 MiB on disk
    for content in (small, spooled):
        answer = client.post("/v1/score", files={"video": ("somebody.mp4", content)})
        assert answer.status_code == 200
        assert answer.json()["clip_id"] not in ("somebody.mp4", "")
    assert service.videos == [small, spooled]


def test_each_request_has_an_id_of_its_own(client: TestClient) -> None:
    ids = {client.post("/v1/score", files={"video": ("a.mp4", b"x")}).json()["clip_id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(("form", "expected"), [({}, None), ({"transcript": ""}, ""), ({"transcript": "Hm."}, "Hm.")])
def test_no_transcript_and_an_empty_one_are_two_things(
    client: TestClient, service: "StandIn", form: dict[str, str], expected: str | None
) -> None:
    assert client.post("/v1/score", files={"video": ("a.mp4", b"x")}, data=form).status_code == 200
    assert service.transcripts == [expected]


def test_an_empty_file(client: TestClient) -> None:
    check_problem(client.post("/v1/score", files={"video": ("a.mp4", b"")}), HTTPStatus.BAD_REQUEST, "empty")


def test_a_missing_file(client: TestClient) -> None:
    for answer in (client.post("/v1/score"), client.post("/v1/score", files={"film": ("a.mp4", b"x")})):
        check_problem(answer, HTTPStatus.UNPROCESSABLE_ENTITY, "video", "curl")


def test_words_are_not_echoed(client: TestClient) -> None:
    answer = client.post("/v1/score", data={"video": "my secret"})
    check_problem(answer, HTTPStatus.UNPROCESSABLE_ENTITY, "video")
    assert "my secret" not in answer.text


def test_an_announced_size_is_refused_before_a_byte_is_read(api: FastAPI, service: "StandIn") -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/score", content=never(), headers={"content-length": str(1 << 40)})

    check_problem(asyncio.run(post()), HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "3 MiB")
    assert service.videos == []


def test_a_body_that_announces_no_size_is_cut_off_while_it_comes(
    api: FastAPI, service: "StandIn", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sent = 0
    chunk = b"x" * (1 << 16)

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        while True:  # without end
            sent += len(chunk)
            yield chunk

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(api)
        headers = {"content-type": "multipart/form-data; boundary=b"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/score", content=body(), headers=headers)

    check_problem(asyncio.run(post()), HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "3 MiB")
    assert sent <= MAX_BYTES + FORM_ALLOWANCE_BYTES + 2 * len(chunk)
    assert service.videos == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_a_byte_too_large(client: TestClient, service: "StandIn") -> None:
    too_much = client.post("/v1/score", files={"video": ("a.mp4", b"x" * (MAX_BYTES + 1))})
    check_problem(too_much, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "3 MiB")
    assert client.post("/v1/score", files={"video": ("a.mp4", b"x" * MAX_BYTES)}).status_code == 200
    assert len(service.videos) == 1


def test_no_more_posts_at_once_than_allowed(service: "StandIn", api: FastAPI) -> None:
    async def run() -> None:
        service.gate = asyncio.Event()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:

            async def post() -> httpx.Response:
                return await client.post("/v1/score", files={"video": ("a.mp4", b"x")})

            running = [asyncio.create_task(post()) for _ in range(2)]
            while len(service.videos) < 2:
                await asyncio.sleep(0.01)
            refused = await post()
            check_problem(refused, HTTPStatus.SERVICE_UNAVAILABLE, "2 clips")
            assert int(refused.headers["retry-after"]) > 0
            assert (await client.get("/healthz")).status_code == 200  # busy is not ill
            service.gate.set()
            assert [(await task).status_code for task in running] == [200, 200]
            assert (await post()).status_code == 200

    asyncio.run(run())


def test_a_clip_that_cannot_be_scored(client: TestClient, service: "StandIn") -> None:
    service.error = ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "The uploaded file is no video.", stage="decode")
    problem = check_problem(
        client.post("/v1/score", files={"video": ("a.mp4", b"x")}), HTTPStatus.UNPROCESSABLE_ENTITY, "no video"
    )
    assert problem["stage"] == "decode"
    assert len(problem["clip_id"]) == 32


def test_what_nobody_foresaw_is_not_shown(client: TestClient, service: "StandIn") -> None:
    service.error = RuntimeError("the words of somebody")
    answer = client.post("/v1/score", files={"video": ("a.mp4", b"x")})
    check_problem(answer, HTTPStatus.INTERNAL_SERVER_ERROR, "RuntimeError")
    assert "somebody" not in answer.text


def test_health(client: TestClient, service: "StandIn") -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    service.error = overloaded("Not ready: no answer from the decoder.")
    answer = client.get("/healthz")
    check_problem(answer, HTTPStatus.SERVICE_UNAVAILABLE, "decoder")
    assert "retry-after" in answer.headers


def test_pages(client: TestClient, service: "StandIn") -> None:
    assert client.get("/v1/model").json()["artifact_id"] == service.model.artifact_id
    assert client.get("/").json()["documentation"] == "http://testserver/docs"
    for nowhere in ("/nowhere", "/redoc"):
        check_problem(client.get(nowhere), HTTPStatus.NOT_FOUND)


def test_the_documentation_needs_no_internet(client: TestClient) -> None:
    """Every address in the page is one of the service's own, relative to wherever a proxy puts it."""
    page = client.get("/docs").text
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)|url:\s*["']([^"']+)""", page)
    found = {"".join(address) for address in addresses}
    assert len(found) == 4
    for address in found:
        assert "//" not in address
        assert not address.startswith("/")
        answer = client.get(f"/{address}")
        assert answer.status_code == 200, address
    assert "SwaggerUIBundle" in client.get("/docs/files/swagger-ui-bundle.js").text


def test_the_openapi_document_describes_the_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    score = document["paths"]["/v1/score"]["post"]["responses"]
    assert set(score) >= {"200", "400", "413", "422", "503"}
    assert MEDIA_TYPE in score["413"]["content"]
    assert document["components"]["schemas"]["ScoreAnswer"]["properties"]["threshold"]["description"]
    example = score["200"]["content"]["application/json"]["example"]
    assert ScoreAnswer.model_validate(example).label == "ah"
