"""How an answer travels: work that ends with its client, and streams of server-sent events that always end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

import anyio
import structlog
from fastapi import Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from fictures.errors import FicturesError, ServerError
from fictures.gateway import errors
from fictures.gateway.errors import ClientGone

T = TypeVar("T")

PING_SECONDS = 15
"""A comment is sent this often in a stream that is silent, so that no proxy ends it."""

_log = structlog.get_logger()


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`; cancel it if the client goes.

    Raises:
        ClientGone: it went.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnection(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for pending in (task, gone):
            pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, FicturesError):
            await task


async def event_stream(request: Request, contents: AsyncGenerator[bytes], *, openai: bool) -> EventSourceResponse:
    """Answer with a stream, once its first event has come: an error before it is an error of the request.

    Raises:
        FicturesError: the stream failed before its first event.
        ClientGone: the client went before it.
    """
    first = await while_connected(request, _first(contents))
    grace = request.app.state.settings.api_shutdown_timeout
    return EventSourceResponse(
        _from_first(first, contents, request, openai=openai),
        ping=PING_SECONDS,
        # At a shutdown a stream is not cut off: it has this long to come to its end.
        shutdown_event=anyio.Event(),
        shutdown_grace_period=grace,
    )


async def _from_first(
    first: bytes, rest: AsyncGenerator[bytes], request: Request, *, openai: bool
) -> AsyncIterator[bytes]:
    try:
        yield first
        async for content in rest:
            yield content
    except FicturesError as error:
        _log.warning("stream failed", error=str(error), status=errors.http_status(error))
        request.app.state.metrics.stream_failed(errors.http_status(error))
        yield sse(errors.event(error, openai=openai))
        if openai:
            yield DONE
    finally:
        await rest.aclose()


async def _first(contents: AsyncGenerator[bytes]) -> bytes:
    async for content in contents:
        return content
    raise ServerError("the server answered with nothing")


DONE = b"data: [DONE]\n\n"
"""How OpenAI's streams end."""


def sse(content: BaseModel | dict[str, Any], event: str | None = None) -> bytes:
    """A server-sent event."""
    data = content.model_dump_json(exclude_unset=True) if isinstance(content, BaseModel) else json.dumps(content)
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {data}\n\n".encode()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
