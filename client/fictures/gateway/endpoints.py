"""The endpoints without HTTP: what each asks of Triton, and what it answers, at once or as events.

The routes serve them; `fictures translate` shows and sends the same requests from a file.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel

from fictures.gateway.backend import Backend
from fictures.translation import fictures_api as api
from fictures.translation.answers import TextAnswer
from fictures.translation.calls import ImageCall, TextCall
from fictures.translation.openai_images import ImageEvents, images_response
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest
from fictures.translation.openai_text import ChatCompletions, Completions


class Event(NamedTuple):
    """One event of a stream; OpenAI's image events have a name beside their content."""

    content: BaseModel | dict[str, Any]
    name: str | None = None


class Endpoint(ABC):
    """One request to an endpoint. `calls` are what it asks of Triton, each with the request's id."""

    calls: Sequence[TextCall | ImageCall]
    streams: bool
    names_model: ClassVar[bool] = False
    """Whether the caller said which model is to answer."""
    has_files: ClassVar[bool] = False
    """Whether its answers hold files, which take so long to write that a thread has to."""
    has_end_mark: ClassVar[bool] = False
    """Whether its streams end with OpenAI's `[DONE]`; elsewhere the last event says by itself that it is."""

    @abstractmethod
    async def whole(self, backend: Backend, request_id: str = "") -> BaseModel:
        """The answer at once. Raises `FicturesError`."""

    @abstractmethod
    def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        """The answer as it comes; closing it cancels the calls. Raises `FicturesError`."""


class Text(Endpoint):
    """The Fictures API's texts, structured ones too."""

    def __init__(self, body: api.TextRequest | api.StructuredTextRequest, model: str, *, streams: bool = False) -> None:
        self._body, self._model = body, model
        self._call = body.to_call(model)
        self.calls, self.streams = [self._call], streams

    async def whole(self, backend: Backend, request_id: str = "") -> api.TextResponse | api.StructuredTextResponse:
        answer = await backend.text(self._call, request_id)
        if isinstance(self._body, api.StructuredTextRequest):
            return api.structured_response(answer, self._model, self._body.guided_decoding.type)
        return api.text_response(answer, self._model)

    async def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        to_event = api.TextEvents(self._model)
        async with aclosing(backend.stream_text(self._call, request_id)) as answers:
            async for answer in answers:
                yield Event(to_event(answer))


class Image(Endpoint):
    """The Fictures API's images."""

    has_files = True

    def __init__(self, body: api.ImageRequest, model: str, *, streams: bool = False) -> None:
        self._body, self._model = body, model
        self._call = body.to_call(model)
        self.calls, self.streams = [self._call], streams

    async def whole(self, backend: Backend, request_id: str = "") -> api.ImageResponse:
        (file,) = await backend.images(self._call, request_id)
        return await asyncio.to_thread(api.image_response, file, self._body, self._model)

    async def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        async with aclosing(backend.stream_images(self._call, request_id)) as steps:
            async for step in steps:
                yield Event(await asyncio.to_thread(api.image_event, step, self._body, self._model))


class OpenAIChat(Endpoint):
    """`/v1/chat/completions`."""

    names_model = has_end_mark = True

    def __init__(self, body: ChatRequest) -> None:
        self._call = body.to_call()
        self._answers = ChatCompletions(body, f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))
        self.calls, self.streams = [self._call], body.stream

    async def whole(self, backend: Backend, request_id: str = "") -> BaseModel:
        return self._answers.whole(await backend.text(self._call, request_id))

    async def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        async with aclosing(backend.stream_text(self._call, request_id)) as answers:
            async for answer in answers:
                yield Event(self._answers.event(answer))
        if last := self._answers.last_event():
            yield Event(last)


class OpenAICompletion(Endpoint):
    """`/v1/completions`."""

    names_model = has_end_mark = True

    def __init__(self, body: CompletionRequest) -> None:
        self._calls = body.to_calls()
        self._answers = Completions(body, f"cmpl-{uuid.uuid4().hex}", int(time.time()))
        self.calls, self.streams = self._calls, body.stream

    async def whole(self, backend: Backend, request_id: str = "") -> BaseModel:
        tasks = [asyncio.create_task(backend.text(call, request_id)) for call in self._calls]
        try:
            return self._answers.whole(await asyncio.gather(*tasks))
        finally:  # the first call that fails ends the others
            for task in tasks:
                task.cancel()

    async def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        async with aclosing(_merged(backend, self._calls, request_id)) as pieces:
            async for prompt, answer in pieces:
                yield Event(self._answers.event(prompt, answer))
        if last := self._answers.last_event():
            yield Event(last)


class OpenAIImages(Endpoint):
    """`/v1/images/generations`."""

    names_model = has_files = True

    def __init__(self, body: ImagesRequest) -> None:
        self._body, self._call = body, body.to_call()
        self._created = int(time.time())
        self.calls, self.streams = [self._call], body.stream

    async def whole(self, backend: Backend, request_id: str = "") -> BaseModel:
        files = await backend.images(self._call, request_id)
        return await asyncio.to_thread(images_response, files, self._body, self._created)

    async def events(self, backend: Backend, request_id: str = "") -> AsyncGenerator[Event]:
        to_event = ImageEvents(self._body, self._created)
        async with aclosing(backend.stream_images(self._call, request_id)) as steps:
            async for step in steps:
                if told := await asyncio.to_thread(to_event, step):
                    yield Event(told, told.type)


async def _merged(
    backend: Backend, calls: Sequence[TextCall], request_id: str
) -> AsyncGenerator[tuple[int, TextAnswer]]:
    """The pieces of all streams as they come, each with the place of its call; the first that fails ends the others."""
    pieces: asyncio.Queue[tuple[int, TextAnswer | None]] = asyncio.Queue()

    async def read(place: int, call: TextCall) -> None:
        try:
            async with aclosing(backend.stream_text(call, request_id)) as answers:
                async for answer in answers:
                    pieces.put_nowait((place, answer))
        finally:
            pieces.put_nowait((place, None))

    if len(calls) == 1:
        async with aclosing(backend.stream_text(calls[0], request_id)) as answers:
            async for answer in answers:
                yield 0, answer
        return
    tasks = [asyncio.create_task(read(place, call)) for place, call in enumerate(calls)]
    try:
        for _ in tasks:
            while (piece := await pieces.get())[1] is not None:
                yield piece[0], piece[1]
            await tasks[piece[0]]
    finally:
        for task in tasks:
            task.cancel()


TEXT_MODEL, IMAGE_MODEL = "gemma", "sdxl"
"""What the Fictures API, whose requests name no model, means."""

ENDPOINTS: Mapping[str, tuple[type[BaseModel], Callable[[Any], Endpoint]]] = {
    "/api/v1/text/generate": (api.TextRequest, lambda body: Text(body, TEXT_MODEL)),
    "/api/v1/text/stream": (api.TextRequest, lambda body: Text(body, TEXT_MODEL, streams=True)),
    "/api/v1/text/structured": (api.StructuredTextRequest, lambda body: Text(body, TEXT_MODEL)),
    "/api/v1/images/generate": (api.ImageRequest, lambda body: Image(body, IMAGE_MODEL)),
    "/api/v1/images/stream": (api.ImageStreamRequest, lambda body: Image(body, IMAGE_MODEL, streams=True)),
    "/v1/chat/completions": (ChatRequest, OpenAIChat),
    "/v1/completions": (CompletionRequest, OpenAICompletion),
    "/v1/images/generations": (ImagesRequest, OpenAIImages),
}
"""Path to the body it takes and what it does with it."""
