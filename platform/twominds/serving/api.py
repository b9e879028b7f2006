"""The HTTP interface: routes and their documents. What scores behind it is a `ScoringService`."""

from http import HTTPStatus
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from twominds import __version__
from twominds.records import ByteArray
from twominds.serving import problems
from twominds.serving.answers import EXAMPLE, HealthAnswer, ModelAnswer, ScoreAnswer
from twominds.serving.forms import DOCUMENT, read_form
from twominds.serving.problems import MEDIA_TYPE, Problem
from twominds.serving.uploads import UploadLimits

DESCRIPTION = """Recognises ambivalence and hesitancy in a video of a person talking.

    curl -F video=@clip.mp4 http://localhost:8000/v1/score

Nothing of an upload is kept. Errors are problem documents (RFC 9457) with a sentence in `detail`."""


class ScoringService(Protocol):
    """What the interface needs of the rest."""

    model: ModelAnswer
    """What is said of the model: its card."""

    async def score(self, clip_id: str, video: ByteArray, transcript: str | None, started_s: float) -> ScoreAnswer:
        """The score of a video file's bytes; `started_s` is when the request began (`time.perf_counter`).

        Raises:
            ProblemError: there is no score, and why.
        """
        ...

    async def ready(self) -> None:
        """Returns when everything downstream answers.

        Raises:
            ProblemError: something does not, and what.
        """
        ...


def create_api(service: ScoringService, *, max_upload_bytes: int, max_requests: int) -> FastAPI:
    """The interface around a service, with its limits."""
    api = FastAPI(title="twominds", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    problems.install(api)
    api.add_middleware(UploadLimits, max_upload_bytes=max_upload_bytes, max_requests=max_requests)
    # FastAPI's own page loads its script from the internet; this one is complete, behind a proxy's prefix too.
    api.mount("/docs/files", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{api.title}: documentation",
            swagger_js_url="docs/files/swagger-ui-bundle.js",
            swagger_css_url="docs/files/swagger-ui.css",
            swagger_favicon_url="docs/files/favicon-32x32.png",
        )

    @api.get("/", include_in_schema=False)
    async def index(request: Request) -> dict[str, str]:
        return {
            "service": "twominds",
            "score": f"curl -F video=@clip.mp4 {request.base_url}v1/score",
            "model": f"{request.base_url}v1/model",
            "health": f"{request.base_url}healthz",
            "documentation": f"{request.base_url}docs",
        }

    @api.get("/healthz", summary="Whether the service can score now: readiness, not liveness", responses=_problems(503))
    async def healthz() -> HealthAnswer:
        await service.ready()
        return HealthAnswer()

    @api.get("/v1/model", summary="The card of the model that answers")
    async def model() -> ModelAnswer:
        return service.model

    @api.post(
        "/v1/score",
        summary="Score one video",
        response_model_exclude_none=False,
        openapi_extra=DOCUMENT,
        responses={
            200: {"description": "The score.", "content": {"application/json": {"example": EXAMPLE}}},
            **_problems(400, 413, 422, 500, 503),
        },
    )
    async def score(request: Request) -> ScoreAnswer:
        form = await read_form(request, max_upload_bytes)
        return await service.score(request.state.clip_id, form.video, form.transcript, request.state.started_s)

    return api


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problem documents."""
    schema = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": schema} for status in statuses}
