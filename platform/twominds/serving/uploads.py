"""What may come in, and how much of it: limits that hold while the bytes arrive, not after."""

import mmap
import time
from http import HTTPStatus
from typing import IO
from uuid import uuid4

import numpy as np
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twominds.records import ByteArray
from twominds.serving.problems import ProblemError, overloaded, respond

FORM_ALLOWANCE_BYTES = 1 << 20
"""What the body may hold beside the file: the transcript and the boundaries."""


class UploadLimits:
    """ASGI middleware: gives each request its id, and refuses posts that are too many or too large.

    The length that the client announces is checked before a byte is read, the bytes that really come as they come.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int, max_requests: int) -> None:
        """Takes the application and the limits: bytes per file, and posts at once."""
        self._app = app
        self._max_file = max_upload_bytes
        self._max_body = max_upload_bytes + FORM_ALLOWANCE_BYTES
        self._max_requests = max_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {}).update(clip_id=uuid4().hex, started_s=time.perf_counter())
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await respond(refusal, scope)(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, self._counted(receive), send)
        finally:
            self._running -= 1

    def _refusal(self, scope: Scope) -> ProblemError | None:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_body:
            return too_large(self._max_file)
        if self._running >= self._max_requests:
            return overloaded(f"The service is working on {self._running} clips, as many as it takes at once.")
        return None

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise too_large(self._max_file)
            return message

        return counted


def too_large(max_bytes: int) -> ProblemError:
    """HTTP 413: the upload is larger than is allowed."""
    detail = f"The upload is larger than {max_bytes / (1 << 20):g} MiB. Send a shorter or smaller video."
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, stage="upload")


def as_array(file: IO[bytes]) -> ByteArray:
    """The bytes of an uploaded file that lies on disk, not read into memory before somebody looks at them.

    The file is Starlette's, which has no name in any folder: it is gone with its last user, even after a SIGKILL.
    """
    descriptor = file.fileno()  # a small file that was kept in memory moves to disk here
    file.flush()
    return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), dtype=np.uint8)
