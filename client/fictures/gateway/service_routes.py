"""What is neither API: health, metrics and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from fictures.gateway.endpoints import IMAGE_MODEL, TEXT_MODEL
from fictures.image_request import streaming_model

PAGE = Path(__file__).parent / "page"
_HEALTH_SECONDS = 5.0
_NEEDED = (TEXT_MODEL, IMAGE_MODEL, streaming_model(IMAGE_MODEL))
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
@router.get("/health", responses={503: {"description": "Something is down; `reason` says what."}})
async def health(request: Request) -> JSONResponse:
    """Whether texts and images can be made now: the engines are asked."""
    found = await request.app.state.client.health(timeout=_HEALTH_SECONDS)
    down = [name for name in _NEEDED if found.models.get(name) != "ready"]
    reason = found.reason or (f"{down[0]}: {found.models.get(down[0], 'not there')}" if down else None)
    body: dict[str, Any] = {
        "status": "unhealthy" if reason else "healthy",
        "reason": reason,
        "models": dict(found.models),
    }
    return JSONResponse(body, 503 if reason else 200)


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> dict[str, str]:
    """Whether the gateway itself answers."""
    return {"status": "alive"}


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """The gateway's metrics, for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """A page to try the models."""
    return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})
