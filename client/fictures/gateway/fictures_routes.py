"""The Fictures API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse

from fictures.gateway.backend import Backend
from fictures.gateway.openapi import STREAM_OF, responses
from fictures.gateway.serving import event_stream, sse, while_connected
from fictures.translation import fictures_api as api

router = APIRouter(prefix="/api/v1", tags=["Fictures API"])


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


@router.post("/text/generate", responses=responses())
async def generate_text(request: Request, body: api.TextRequest) -> api.TextResponse:
    """Generate a text."""
    model = request.app.state.text_model
    answer = await while_connected(request, _backend(request).text(body.to_call(model), request.state.request_id))
    return api.text_response(answer, model)


@router.post("/text/structured", responses=responses())
async def generate_structured_text(request: Request, body: api.StructuredTextRequest) -> api.StructuredTextResponse:
    """Generate a text that has a form: a JSON schema's, a regular expression's, one of several or a grammar's."""
    model = request.app.state.text_model
    answer = await while_connected(request, _backend(request).text(body.to_call(model), request.state.request_id))
    return api.structured_response(answer, model, body.guided_decoding.type)


@router.post(
    "/text/stream", response_class=EventSourceResponse, responses=responses(STREAM_OF(api.TextEvent, api.ErrorEvent))
)
async def stream_text(request: Request, body: api.TextRequest) -> EventSourceResponse:
    """Generate a text and send it as it comes, as server-sent events."""
    model = request.app.state.text_model

    async def events() -> AsyncGenerator[bytes]:
        to_event = api.TextEvents(model)
        async for answer in _backend(request).stream_text(body.to_call(model), request.state.request_id):
            yield sse(to_event(answer))

    return await event_stream(request, events(), openai=False)


@router.get("/text/models", responses=responses())
async def text_models(request: Request) -> dict[str, Any]:
    """List the text models."""
    return {"models": await request.app.state.catalog.fictures_models("text")}


@router.post("/images/generate", responses=responses())
async def generate_image(request: Request, body: api.ImageRequest) -> api.ImageResponse:
    """Draw an image."""
    model = request.app.state.image_model
    (file,) = await while_connected(request, _backend(request).images(body.to_call(model), request.state.request_id))
    return api.image_response(file, body, model)


@router.post(
    "/images/stream", response_class=EventSourceResponse, responses=responses(STREAM_OF(api.ImageEvent, api.ErrorEvent))
)
async def stream_image(request: Request, body: api.ImageStreamRequest) -> EventSourceResponse:
    """Draw an image and tell of each denoising step, as server-sent events."""
    model = request.app.state.image_model

    async def events() -> AsyncGenerator[bytes]:
        async for event in _backend(request).stream_images(body.to_call(model), request.state.request_id):
            yield sse(api.image_event(event, body, model))

    return await event_stream(request, events(), openai=False)


@router.get("/images/models", responses=responses())
async def image_models(request: Request) -> dict[str, Any]:
    """List the image models."""
    return {"models": await request.app.state.catalog.fictures_models("image")}
