"""The Fictures API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fictures.gateway.openapi import (
    IMAGE,
    IMAGE_MODELS,
    STRUCTURED,
    TEXT,
    TEXT_MODELS,
    ImageModels,
    TextModels,
    answer_example,
    body_examples,
    responses,
    stream_of,
)
from fictures.gateway.serving import EventStream, answer
from fictures.translation import fictures_api as api

router = APIRouter(prefix="/api/v1", tags=["Fictures API"])


@router.post(
    "/text/generate", response_model=api.TextResponse, responses=responses(), openapi_extra=body_examples(TEXT)
)
async def generate_text(request: Request, body: api.TextRequest) -> Response:
    """Generate a text."""
    return await answer(request, body)


@router.post(
    "/text/structured",
    response_model=api.StructuredTextResponse,
    responses=responses(),
    openapi_extra=body_examples(*STRUCTURED),
)
async def generate_structured_text(request: Request, body: api.StructuredTextRequest) -> Response:
    """Generate a text that has a form: a JSON schema's, a regular expression's, one of several or a grammar's."""
    return await answer(request, body)


@router.post(
    "/text/stream",
    response_class=EventStream,
    responses=responses(stream_of(api.TextEvent, api.ErrorEvent)),
    openapi_extra=body_examples(TEXT),
)
async def stream_text(request: Request, body: api.TextRequest) -> Response:
    """Generate a text and send it as it comes, as server-sent events."""
    return await answer(request, body)


@router.get("/text/models", responses=responses(answer_example(TEXT_MODELS)))
async def text_models(request: Request) -> TextModels:
    """List the text models."""
    return TextModels(models=await request.app.state.catalog.text_models())


@router.post(
    "/images/generate", response_model=api.ImageResponse, responses=responses(), openapi_extra=body_examples(IMAGE)
)
async def generate_image(request: Request, body: api.ImageRequest) -> Response:
    """Draw an image."""
    return await answer(request, body)


@router.post(
    "/images/stream",
    response_class=EventStream,
    responses=responses(stream_of(api.ImageEvent, api.ErrorEvent)),
    openapi_extra=body_examples({**IMAGE, "preview_every": 2}),
)
async def stream_image(request: Request, body: api.ImageStreamRequest) -> Response:
    """Draw an image and tell of each denoising step, as server-sent events."""
    return await answer(request, body)


@router.get("/images/models", responses=responses(answer_example(IMAGE_MODELS)))
async def image_models(request: Request) -> ImageModels:
    """List the image models."""
    return ImageModels(models=await request.app.state.catalog.image_models())
