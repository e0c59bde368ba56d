"""What is neither API: health, metrics and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from fictures.gateway.health import HealthReport
from fictures.gateway.openapi import HEALTHY, METRICS, answer_example

PAGE = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageFiles(StaticFiles):
    """The page's files; a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


router = APIRouter(tags=["Service"])


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    response_model=HealthReport,
    responses={**answer_example(HEALTHY), 503: {"description": "Something is down; `reason` says what."}},
)
async def health(request: Request) -> JSONResponse:
    """Whether texts and images can be made now: the engines are asked. Where keys are needed, details need one."""
    state = request.app.state
    report: HealthReport = await state.health.report()
    if not state.access.knows(request.headers):
        report = report.brief()
    return JSONResponse(report.model_dump(), 200 if report.is_healthy else 503)


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses=answer_example({"status": "alive"}))
async def live() -> dict[str, str]:
    """Whether the gateway itself answers."""
    return {"status": "alive"}


@router.get("/metrics", response_class=PlainTextResponse, responses=answer_example(METRICS, "text/plain"))
async def metrics(request: Request) -> Response:
    """The gateway's metrics, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """A page to try the models."""
    return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})
