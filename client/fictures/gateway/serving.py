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
from fastapi.responses import Response
from sse_starlette import EventSourceResponse

from fictures.errors import FicturesError, ServerError
from fictures.gateway import errors
from fictures.gateway.endpoints import Endpoint, Event
from fictures.gateway.errors import ClientGone

T = TypeVar("T")

PING_SECONDS = 15
"""A comment is sent this often in a stream that is silent, so that no proxy ends it."""

SEND_SECONDS = 60.0
"""A client that takes nothing of its stream for so long counts as gone."""

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


async def answer(request: Request, endpoint: Endpoint) -> Response:
    """Answer a request: at once, or with a stream as soon as its first event has come, so that an error before it is
    an error of the request.

    Raises:
        FicturesError: it failed, streaming before its first event.
        ClientGone: the client went before it.
    """
    backend, request_id = request.app.state.backend, request.state.request_id
    if not endpoint.streams:
        whole = await while_connected(request, endpoint.whole(backend, request_id))
        return Response(whole.model_dump_json(exclude_unset=True), media_type="application/json")
    events = endpoint.events(backend, request_id)
    first = await while_connected(request, _first(events))
    return EventSourceResponse(
        _sent(first, events, request),
        ping=PING_SECONDS,
        send_timeout=SEND_SECONDS,
        # At a shutdown a stream is not cut off: it has this long to come to its end.
        shutdown_event=anyio.Event(),
        shutdown_grace_period=request.app.state.settings.api_shutdown_timeout,
    )


async def _sent(first: Event, rest: AsyncGenerator[Event], request: Request) -> AsyncIterator[bytes]:
    openai = errors.is_openai(request)
    try:
        yield sse(first)
        async for event in rest:
            yield sse(event)
    except FicturesError as error:
        _log.warning("stream failed", error=str(error), status=errors.http_status(error))
        request.app.state.metrics.stream_failed(errors.http_status(error))
        yield sse(Event(errors.event(error, openai=openai)))
    except Exception:
        _log.exception("the gateway failed in a stream")
        request.app.state.metrics.stream_failed(500)
        yield sse(Event(errors.event(ServerError("the gateway failed; its log says more"), openai=openai)))
    finally:
        await rest.aclose()
    if openai and request.url.path != IMAGES_PATH:
        yield DONE


async def _first(events: AsyncGenerator[Event]) -> Event:
    async for event in events:
        return event
    raise ServerError("the server answered with nothing")


DONE = b"data: [DONE]\n\n"
"""How OpenAI's streams end."""


IMAGES_PATH = "/v1/images/generations"
"""Its streams have no such mark: the last event says by its type that it is."""


def sse(event: Event) -> bytes:
    """A server-sent event."""
    name = f"event: {event.name}\n" if event.name else ""
    content = event.content
    if not isinstance(content, dict):
        content = content.model_dump(mode="json", exclude_unset=True)
    # In ASCII: Unicode has ends of lines that some readers would take for the event's.
    return f"{name}data: {json.dumps(content)}\n\n".encode()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
