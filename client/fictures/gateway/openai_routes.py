"""The OpenAI API, as OpenAI's own SDK calls it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from openai.types import Completion, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from fictures.gateway.openapi import (
    CHAT,
    COMPLETION,
    IMAGES,
    MODEL,
    ModelList,
    answer_example,
    body_examples,
    openai_responses,
    stream_of,
)
from fictures.gateway.serving import answer
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest

router = APIRouter(prefix="/v1", tags=["OpenAI API"])


@router.get(
    "/models",
    responses=openai_responses(answer_example({"object": "list", "data": [MODEL]})),
    response_model_exclude_none=True,
)
async def list_models(request: Request) -> ModelList:
    """List the models."""
    return ModelList(data=await request.app.state.catalog.openai_models())


@router.get("/models/{model}", responses=openai_responses(answer_example(MODEL)), response_model_exclude_none=True)
async def get_model(request: Request, model: Annotated[str, Path(examples=["gemma"])]) -> Model:
    """Tell of one model."""
    found: Model = await request.app.state.catalog.openai_model(model)
    return found


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses=openai_responses(stream_of(ChatCompletionChunk)),
    openapi_extra=body_examples(CHAT),
)
async def create_chat_completion(request: Request, body: ChatRequest) -> Response:
    """Answer a chat, at once or, with `stream`, as it is generated."""
    return await answer(request, body)


@router.post(
    "/completions",
    response_model=Completion,
    responses=openai_responses(stream_of(Completion)),
    openapi_extra=body_examples(COMPLETION),
)
async def create_completion(request: Request, body: CompletionRequest) -> Response:
    """Continue a text, or several, at once or, with `stream`, as they are generated."""
    return await answer(request, body)


@router.post(
    "/images/generations",
    response_model=ImagesResponse,
    responses=openai_responses(stream_of(ImageGenPartialImageEvent, ImageGenCompletedEvent)),
    openapi_extra=body_examples(IMAGES),
)
async def generate_images(request: Request, body: ImagesRequest) -> Response:
    """Draw images, at once or, with `stream`, with previews."""
    return await answer(request, body)
