"""What the service answers when it has no score: RFC 9457 problem documents, each with a sentence."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class Problem(BaseModel):
    """A problem document (RFC 9457), with two members of our own: `stage` and `clip_id`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = "about:blank"
    """Always `about:blank`: the status says what kind of problem it is."""
    title: str
    """The status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong and what to do, in a sentence."""
    stage: str
    """Where it went wrong: `upload`, `decode`, `fusion`, `service`, ..."""
    clip_id: str | None = None
    """The id of the request, by which the service's log names it."""


class ProblemError(HTTPException):
    """Ends a request with a problem document."""

    def __init__(self, status: HTTPStatus, detail: str, *, stage: str, retry: bool = False) -> None:
        """Takes the status, the sentence, and whether the same request may succeed in a moment (`Retry-After`)."""
        headers = {"Retry-After": str(RETRY_AFTER_S)} if retry else None
        super().__init__(status_code=status, detail=detail, headers=headers)
        self.stage = stage


def overloaded(detail: str) -> ProblemError:
    """503, to be tried again in a moment."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, stage="service", retry=True)


def respond(error: HTTPException, scope: Scope) -> JSONResponse:
    """The answer that `error` stands for."""
    ours = isinstance(error, ProblemError)
    problem = Problem(
        title=HTTPStatus(error.status_code).phrase,
        status=error.status_code,
        detail=error.detail if ours else f"{error.detail.rstrip('.')}. What can be asked for is listed at /docs.",
        stage=error.stage if ours else "request",
        clip_id=scope.get("state", {}).get("clip_id"),
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), error.status_code, headers=error.headers, media_type=MEDIA_TYPE
    )


def install(api: FastAPI) -> None:
    """Makes every error of `api` a problem document."""

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return respond(error, request.scope)

    async def on_anything_else(request: Request, error: Exception) -> JSONResponse:
        detail = f"The service failed ({type(error).__name__}); its log has the details under this clip_id."
        return respond(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail, stage="service"), request.scope)

    api.add_exception_handler(HTTPException, on_http)
    api.add_exception_handler(Exception, on_anything_else)
