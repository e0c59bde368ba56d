"""The OpenAI API, as OpenAI's own SDK calls it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from openai.types import Completion, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from fictures.gateway.backend import Backend
from fictures.gateway.openapi import STREAM_OF, openai_responses
from fictures.gateway.serving import DONE, event_stream, sse, while_connected
from fictures.translation.answers import TextAnswer
from fictures.translation.calls import TextCall
from fictures.translation.openai_images import ImageEvents, images_response
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest
from fictures.translation.openai_text import ChatCompletions, Completions

router = APIRouter(prefix="/v1", tags=["OpenAI API"])


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


@router.get("/models", responses=openai_responses())
async def list_models(request: Request) -> dict[str, str | list[Model]]:
    """List the models."""
    return {"object": "list", "data": await request.app.state.catalog.openai_models()}


@router.get("/models/{model}", responses=openai_responses())
async def get_model(request: Request, model: str) -> Model:
    """Tell of one model."""
    found: Model = await request.app.state.catalog.openai_model(model)
    return found


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses=openai_responses(STREAM_OF(ChatCompletionChunk)),
)
async def create_chat_completion(request: Request, body: ChatRequest) -> Response:
    """Answer a chat, at once or, with `stream`, as it is generated."""
    await request.app.state.catalog.check_model(body.model, "text")
    answers = ChatCompletions(body, f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))
    call, request_id = body.to_call(), request.state.request_id
    if not body.stream:
        answer = await while_connected(request, _backend(request).text(call, request_id))
        return _json(answers.whole(answer))

    async def events() -> AsyncGenerator[bytes]:
        async for answer in _backend(request).stream_text(call, request_id):
            yield sse(answers.event(answer))
        if last := answers.last_event():
            yield sse(last)
        yield DONE

    return await event_stream(request, events(), openai=True)


@router.post("/completions", response_model=Completion, responses=openai_responses(STREAM_OF(Completion)))
async def create_completion(request: Request, body: CompletionRequest) -> Response:
    """Continue a text, or several, at once or, with `stream`, as they are generated."""
    await request.app.state.catalog.check_model(body.model, "text")
    answers = Completions(body, f"cmpl-{uuid.uuid4().hex}", int(time.time()))
    calls, request_id = body.to_calls(), request.state.request_id
    if not body.stream:
        whole = [_backend(request).text(call, request_id) for call in calls]
        return _json(answers.whole(await while_connected(request, _all(whole))))

    async def events() -> AsyncGenerator[bytes]:
        async for prompt, answer in _merged(_backend(request), calls, request_id):
            yield sse(answers.event(prompt, answer))
        if last := answers.last_event():
            yield sse(last)
        yield DONE

    return await event_stream(request, events(), openai=True)


@router.post(
    "/images/generations",
    response_model=ImagesResponse,
    responses=openai_responses(STREAM_OF(ImageGenPartialImageEvent, ImageGenCompletedEvent)),
)
async def generate_images(request: Request, body: ImagesRequest) -> Response:
    """Draw images, at once or, with `stream`, with previews."""
    await request.app.state.catalog.check_model(body.model, "image")
    call, request_id, created = body.to_call(), request.state.request_id, int(time.time())
    if not body.stream:
        files = await while_connected(request, _backend(request).images(call, request_id))
        return _json(images_response(files, body, created))

    async def events() -> AsyncGenerator[bytes]:
        to_event = ImageEvents(body, created)
        async for event in _backend(request).stream_images(call, request_id):
            if told := to_event(event):
                yield sse(told, told.type)

    return await event_stream(request, events(), openai=True)


def _json(answer: Completion | ChatCompletion | ImagesResponse) -> Response:
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


async def _all(calls: Sequence[Coroutine[Any, Any, TextAnswer]]) -> list[TextAnswer]:
    """All answers; the first call that fails ends the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _merged(
    backend: Backend, calls: Sequence[TextCall], request_id: str
) -> AsyncIterator[tuple[int, TextAnswer]]:
    """The pieces of all streams as they come, each with the place of its call; the first that fails ends the others."""
    pieces: asyncio.Queue[tuple[int, TextAnswer | None]] = asyncio.Queue()

    async def read(place: int, call: TextCall) -> None:
        try:
            async for answer in backend.stream_text(call, request_id):
                pieces.put_nowait((place, answer))
        finally:
            pieces.put_nowait((place, None))

    tasks = [asyncio.create_task(read(place, call)) for place, call in enumerate(calls)]
    try:
        for _ in tasks:
            while (piece := await pieces.get())[1] is not None:
                yield piece[0], piece[1]
            await tasks[piece[0]]
    finally:
        for task in tasks:
            task.cancel()
