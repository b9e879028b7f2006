"""The form of a request: one video file and, if the caller knows them, the words. What does not fit is refused.

Nothing of a form is passed over: a field that we do not know may hold the words that the caller wants to be used.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from twominds.records import ByteArray
from twominds.serving.problems import ProblemError
from twominds.serving.uploads import as_array, too_large

VIDEO, TRANSCRIPT = "video", "transcript"
MAX_TRANSCRIPT_CHARS = 50_000
MAX_CHAR_BYTES = 4
MAX_PATH_BYTES = 4096
"""A path is no longer than this, and a video no shorter."""
URL = "http://localhost:8000/v1/score"
CURL = f"curl -F video=@clip.mp4 {URL}"
CURL_WITH_WORDS = f'curl -F video=@clip.mp4 -F transcript="I want to, but then again" {URL}'
CURL_WITH_FILE = f'curl -F video=@clip.mp4 -F "transcript=<words.txt" {URL}'

DOCUMENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [VIDEO],
                    "additionalProperties": False,
                    "properties": {
                        VIDEO: {
                            "type": "string",
                            "format": "binary",
                            "description": "The video file: MP4, MOV, WebM, AVI, ...",
                        },
                        TRANSCRIPT: {
                            "type": "string",
                            "maxLength": MAX_TRANSCRIPT_CHARS,
                            "description": "What is said, if you know it; empty: nothing is said. Without this field "
                            "the words come from the file's subtitles or from speech recognition.",
                        },
                    },
                }
            }
        },
    }
}
"""The form in OpenAPI's words."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a caller sends."""

    video: ByteArray
    """The bytes of the file."""
    transcript: str | None
    """The words; None where the caller says nothing of them, empty where nothing is said."""


async def read_form(request: Request, max_video_bytes: int) -> Form:
    """The form in the body of `request`.

    Raises:
        ProblemError: it is none, or not one that fits; the sentence names the field and shows a line of curl.
    """
    if request.query_params:
        raise refused("The address has a query (what follows the `?`), and only the fields of a form are read.")
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise refused("The body is not a form (multipart/form-data) with a file named video.")
    if not options.get(b"boundary"):
        raise refused("The Content-Type has no boundary: let your client write that header by itself.")
    parser = _Parser(request.headers, request.stream())
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise refused("The form cannot be read: its parts are not what its boundary says.") from error
    except ClientDisconnect as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The upload broke off.", stage="upload") from error
    try:
        if not parser.ended:
            raise refused("The form ends without its last boundary: it was cut off, or is empty.")
        return Form(video=_video(form, max_video_bytes), transcript=_transcript(form))
    finally:
        await form.close()  # a mapped file stays until its last user is gone


def refused(reason: str, curl: str = CURL) -> ProblemError:
    """422, with the line that does it right."""
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{reason} Do it like this: {curl}", stage="upload")


class _Parser(MultiPartParser):
    """Starlette's parser, which looks at a part's name before its content comes, and takes every part for a file.

    Many clients send a file without a filename. Starlette takes it for text, which may have 1 MiB; here the name of a
    part says what it is.
    """

    ended = False
    """Whether the last boundary has come."""

    def on_headers_finished(self) -> None:
        """Refuses fields that are not ours, or there already."""
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if name not in (VIDEO, TRANSCRIPT):
            raise refused(
                f"The form has a field named {name[:40]!r}; there is only a file named video and a text named "
                "transcript, and a field with another name would be lost.",
                CURL_WITH_WORDS,
            )
        if any(name == known for known, _ in self.items):
            raise refused(f"The form has two fields named {name}: a request is for one video.", CURL_WITH_WORDS)
        if b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename=""'
        super().on_headers_finished()

    def on_end(self) -> None:
        """Notes that nothing is missing."""
        self.ended = True


def _video(form: FormData, max_bytes: int) -> ByteArray:
    part = form.get(VIDEO)
    if not isinstance(part, UploadFile):
        raise refused("The form has no file named video.")
    if not part.size:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The uploaded file is empty.", stage="upload")
    if not part.filename and part.size <= MAX_PATH_BYTES:
        raise refused("The field video is a text and not a file: the path needs an @ before it.")
    if part.size > max_bytes:
        raise too_large(max_bytes)
    return as_array(part.file)


def _transcript(form: FormData) -> str | None:
    part = form.get(TRANSCRIPT)
    if not isinstance(part, UploadFile):
        return None
    if part.filename:
        raise refused("The transcript is a file, and is taken as a text; curl reads one from a file.", CURL_WITH_FILE)
    _, options = parse_options_header(part.content_type)
    too_long = (part.size or 0) > MAX_CHAR_BYTES * MAX_TRANSCRIPT_CHARS
    try:
        words = "" if too_long else part.file.read().decode(options.get(b"charset", b"utf-8").decode())
    except (UnicodeError, LookupError) as error:
        raise refused(
            "The transcript is not UTF-8. Send it as that, or name its encoding in the Content-Type of its part.",
            f"curl -F video=@clip.mp4 -F 'transcript=<words.txt;type=text/plain;charset=windows-1252' {URL}",
        ) from error
    if too_long or len(words) > MAX_TRANSCRIPT_CHARS:
        raise refused(f"The transcript is longer than {MAX_TRANSCRIPT_CHARS} characters.", CURL_WITH_WORDS)
    return words
