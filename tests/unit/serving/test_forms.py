"""What a form may look like: real clients' ones are read, others are refused with a sentence and a line of curl."""

import json
import logging
import shlex
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from twominds.serving.forms import CURL, CURL_WITH_FILE, CURL_WITH_WORDS, MAX_PATH_BYTES

if TYPE_CHECKING:
    from tests.unit.serving.conftest import StandIn

CASES = Path(__file__).parents[4] / "shared" / "cases"
BOUNDARY = "----b"
VIDEO = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 20
FILE = 'name="video"; filename="somebody.mp4"\r\nContent-Type: video/mp4', VIDEO
WORDS = 'name="transcript"', b"Hm."


def part(head: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(part(*each) for each in parts) + f"--{BOUNDARY}--\r\n".encode()


def post(client: TestClient, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> Any:
    return client.post("/v1/score", content=body, headers={"content-type": kind} if kind else {})


def check_refused(answer: Any, *words: str, status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["stage"] == "upload"
    for word in words:
        assert word in answer.json()["detail"]


def expected_cases() -> list[Any]:
    if not CASES.is_dir():
        return [pytest.param("", {}, marks=pytest.mark.skip("no ../shared/cases beside this checkout"))]
    cases = json.loads((CASES / "expect.json").read_text())
    return [pytest.param(name, case, id=name) for name, case in cases.items() if case["kind"] == "http"]


@pytest.mark.parametrize(("name", "case"), expected_cases())
def test_the_bodies_that_went_wrong_once(
    client: TestClient, service: "StandIn", name: str, case: dict[str, Any]
) -> None:
    kind = (CASES / name).with_suffix(".type").read_text().strip()
    assert kind == case["content_type"]
    answer = post(client, (CASES / name).read_bytes(), kind)
    assert answer.status_code in case["status"], answer.text
    assert [video[4:8] for video in service.videos] == ([b"ftyp"] if answer.status_code == 200 else [])
    if answer.status_code != 200:
        check_refused(answer, CURL.split()[-1], "video=@clip.mp4")


@pytest.mark.parametrize(
    "head",
    [
        'name="video"',  # nothing but the name
        'name="video"\r\nContent-Type: video/mp4',  # axios, React Native, Java
        'name="video"\r\nContent-Type: application/octet-stream',
        'name="video"\r\nContent-Type: text/plain; charset=utf-8',
        'name="video"; filename=""\r\nContent-Type: application/octet-stream',
        "name=\"video\"; filename*=UTF-8''in%20two%20minds.mp4\r\nContent-Type: video/mp4",
        'name="video"; filename="../../etc/passwd"',
        "name=video; filename=clip.mp4",
        'filename="clip.mp4"; name="video"',
    ],
)
@pytest.mark.parametrize("repeats", [1, 400])  # in memory, and on disk: more than Starlette takes for a text
def test_a_file_however_it_is_called(client: TestClient, service: "StandIn", head: str, repeats: int) -> None:
    assert post(client, form((head, VIDEO * repeats), WORDS)).status_code == 200
    assert service.videos == [VIDEO * repeats]
    assert service.transcripts == ["Hm."]


def test_a_path_in_place_of_a_file(client: TestClient, service: "StandIn") -> None:
    for head in ('name="video"', 'name="video"\r\nContent-Type: text/plain'):
        check_refused(post(client, form((head, b"interviews/clip.mp4"))), "an @", CURL)
        check_refused(post(client, form((head, b"x" * MAX_PATH_BYTES))), "an @")
    assert service.videos == []


@pytest.mark.parametrize(
    "name", ["text", "prompt", "Transcript", "transcripts", "Video", "video[]", "file", "threshold", "_charset_", ""]
)
def test_a_field_that_is_not_known(client: TestClient, service: "StandIn", name: str) -> None:
    for parts in ((FILE, (f'name="{name}"', b"Hm.")), ((f'name="{name}"', b"Hm."), FILE)):
        check_refused(post(client, form(*parts)), repr(name), CURL_WITH_WORDS)
    check_refused(post(client, form((f'name="{name}"; filename="a.mp4"', VIDEO))), repr(name))
    assert service.videos == []


def test_a_part_without_a_name(client: TestClient) -> None:
    check_refused(post(client, form(FILE, ('filename="a.mp4"', VIDEO))), "''", CURL_WITH_WORDS)
    nameless = f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nHm.\r\n".encode()
    check_refused(post(client, nameless + form(FILE)), "''")


@pytest.mark.parametrize("twice", [FILE, WORDS])
def test_a_field_that_comes_twice(client: TestClient, service: "StandIn", twice: tuple[str, bytes]) -> None:
    name = shlex.split(twice[0].split(";")[0])[0].removeprefix("name=")
    check_refused(post(client, form(FILE, WORDS, twice)), "two", name, CURL_WITH_WORDS)
    check_refused(post(client, form(FILE, *[WORDS] * 5000)), "two fields named transcript")
    assert service.videos == []


def test_a_form_without_a_video(client: TestClient) -> None:
    for body in (form(WORDS), form()):
        check_refused(post(client, body), "video", CURL)


def test_an_empty_video(client: TestClient) -> None:
    for head in ('name="video"', 'name="video"; filename=""', 'name="video"; filename="a.mp4"'):
        check_refused(post(client, form((head, b""))), "empty", status=HTTPStatus.BAD_REQUEST)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (VIDEO, "video/mp4"),  # --data-binary @clip.mp4
        (VIDEO, ""),
        (b"", ""),
        (b"video=clip.mp4&transcript=my+secret", "application/x-www-form-urlencoded"),  # -d
        (b'{"video": "clip.mp4"}', "application/json"),
        (form(FILE), "multipart/mixed; boundary=" + BOUNDARY),
    ],
)
def test_a_body_that_is_no_form(client: TestClient, service: "StandIn", body: bytes, kind: str) -> None:
    answer = post(client, body, kind)
    check_refused(answer, "multipart/form-data", CURL)
    assert "secret" not in answer.text
    assert service.videos == []


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data;x=y"])
def test_a_content_type_without_a_boundary(client: TestClient, kind: str) -> None:
    check_refused(post(client, form(FILE), kind), "boundary", "your client", CURL)


def test_a_form_that_is_damaged(client: TestClient, service: "StandIn") -> None:
    whole = form(FILE, WORDS)
    for body in (whole[: len(whole) // 2], whole[:-8], b""):  # a proxy that cuts
        check_refused(post(client, body), "cut off", CURL)
    for body in (whole.replace(b"\r\n", b"\n"), VIDEO, b"--another\r\n" + whole):
        check_refused(post(client, body), "form", CURL)
    check_refused(post(client, whole, "multipart/form-data; boundary=another"), "boundary", CURL)
    assert service.videos == []


def test_a_query(client: TestClient, service: "StandIn") -> None:
    for query in ("transcript=my+secret", "threshold=0.4", "video"):
        answer = client.post(f"/v1/score?{query}", files={"video": ("a.mp4", VIDEO)})
        check_refused(answer, "query", CURL)
        assert "secret" not in answer.text
    assert service.videos == []


def test_a_transcript_that_is_a_file(client: TestClient, service: "StandIn") -> None:
    head = 'name="transcript"; filename="words.txt"\r\nContent-Type: text/plain'
    check_refused(post(client, form(FILE, (head, b"Hm."))), "transcript", CURL_WITH_FILE)
    assert service.transcripts == []


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("", "utf-8"),
        ("\r\nContent-Type: text/plain", "utf-8"),
        ("\r\nContent-Type: text/plain; charset=UTF-8", "utf-8"),
        ('\r\nContent-Type: text/plain; charset="iso-8859-1"', "latin-1"),
        ("\r\nContent-Type: text/plain; charset=utf-16", "utf-16"),
    ],
)
def test_the_words_in_any_encoding_that_is_named(
    client: TestClient, service: "StandIn", kind: str, encoding: str
) -> None:
    words = "Naja, ich weiß nicht … ¿o sí?" if encoding != "latin-1" else "Naja, ich weiß nicht, ¿o sí?"
    assert post(client, form(FILE, (f'name="transcript"{kind}', words.encode(encoding)))).status_code == 200
    assert service.transcripts == [words]


@pytest.mark.parametrize("kind", ["", "\r\nContent-Type: text/plain; charset=nobody-knows"])
@pytest.mark.parametrize("words", ["ich weiß".encode("latin-1"), "Hm.".encode("utf-16")])
def test_words_that_nobody_can_read(client: TestClient, service: "StandIn", kind: str, words: bytes) -> None:
    check_refused(post(client, form(FILE, (f'name="transcript"{kind}', words))), "transcript is not UTF-8", "charset=")
    assert service.transcripts == []


def test_words_without_end(client: TestClient, service: "StandIn") -> None:
    for words in ("x" * 50_001, "€" * 50_001, "x" * 1_000_000):
        check_refused(post(client, form(FILE, ('name="transcript"', words.encode()))), "50000 characters")
    assert post(client, form(FILE, ('name="transcript"', b"x" * 50_000))).status_code == 200
    assert [len(words or "") for words in service.transcripts] == [50_000]


def test_no_name_of_a_form_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for body in (form(FILE, WORDS), form(FILE, ('name="of somebody"', b"Hm.")), form(FILE, FILE), form(FILE)[:-20]):
        post(client, body)
    assert "somebody" not in caplog.text


def test_the_document_describes_the_form(client: TestClient) -> None:
    body = client.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]
    assert set(schema["properties"]) == {"video", "transcript"}
    assert (schema["required"], schema["additionalProperties"]) == (["video"], False)
