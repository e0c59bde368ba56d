"""How an answer travels: work that ends with its client, and streams of server-sent events that always end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import anyio
import structlog
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from fictures.errors import FicturesError, ServerError
from fictures.gateway import errors
from fictures.gateway.endpoints import ENDPOINTS, Endpoint, Event
from fictures.gateway.errors import ClientGone
from fictures.gateway.writing import json_pieces

T = TypeVar("T")

PING_SECONDS = 15
"""A comment is sent this often in a stream that is silent, so that no proxy ends it."""

SEND_SECONDS = 60.0
"""A client that takes nothing of its answer for so long counts as gone."""

_AT_ONCE = 2**20
"""Bytes of a whole answer that are sent at once."""

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


async def answer(request: Request, body: BaseModel) -> Response:
    """Answer a request as its endpoint does: at once, or with a stream as soon as its first event has come, so that an
    error before it is an error of the request.

    Raises:
        FicturesError: it failed, streaming before its first event.
        ClientGone: the client went before it.
    """
    _, make = ENDPOINTS[request.scope["route"].path]
    endpoint = make(body)
    backend, request_id = request.app.state.backend, request.state.request_id
    if endpoint.names_model:
        await while_connected(request, request.app.state.catalog.check(endpoint.calls))
    if not endpoint.streams:
        whole = await while_connected(request, endpoint.whole(backend, request_id))
        if endpoint.has_files:
            return _WholeAnswer(await asyncio.to_thread(json_pieces, whole))
        return _WholeAnswer([whole.model_dump_json(exclude_unset=True).encode()])
    events = endpoint.events(backend, request_id)
    first = await while_connected(request, _first(events))
    return _EventStream(
        events,
        _sent(first, events, request, endpoint),
        ping=PING_SECONDS,
        send_timeout=SEND_SECONDS,
        # At a shutdown a stream is not cut off: the server lets it come to its end, or ends its call.
        shutdown_event=anyio.Event(),
        shutdown_grace_period=request.app.state.settings.api_shutdown_timeout + 1,
    )


class _WholeAnswer(Response):
    """Sent in pieces, so that a client that takes nothing of it can be told from a slow one.

    Raises:
        ClientGone: it took nothing of it for `SEND_SECONDS`.
    """

    media_type = "application/json"

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        super().__init__(headers={"content-length": str(sum(map(len, pieces)))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            for start in range(0, len(piece), _AT_ONCE):
                await _send(send, piece[start : start + _AT_ONCE], more=True)
        await _send(send, b"", more=False)


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError:
        raise ClientGone from None


class _EventStream(EventSourceResponse):
    """Closes its events also if nothing of it was ever sent."""

    def __init__(self, events: AsyncGenerator[Event], sent: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(sent, **options)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._events.aclose()


async def _sent(
    first: Event, rest: AsyncGenerator[Event], request: Request, endpoint: Endpoint
) -> AsyncIterator[bytes]:
    try:
        yield await _written(first, endpoint)
        async for event in rest:
            yield await _written(event, endpoint)
    except FicturesError as error:
        _log.warning("stream failed", error=str(error), status=errors.http_status(error))
        request.app.state.metrics.stream_failed(errors.http_status(error))
        yield sse(Event(errors.event(error, request)))
    except Exception:
        _log.exception("the gateway failed in a stream")
        request.app.state.metrics.stream_failed(500)
        yield sse(Event(errors.event(None, request)))
    finally:
        await rest.aclose()
    if endpoint.has_end_mark:
        yield DONE


async def _written(event: Event, endpoint: Endpoint) -> bytes:
    return await asyncio.to_thread(sse, event) if endpoint.has_files else sse(event)


async def _first(events: AsyncGenerator[Event]) -> Event:
    async for event in events:
        return event
    raise ServerError("the server answered with nothing")


DONE = b"data: [DONE]\n\n"
"""How OpenAI's streams end."""


def sse(event: Event) -> bytes:
    """A server-sent event."""
    name = f"event: {event.name}\n" if event.name else ""
    # In ASCII: Unicode has ends of lines that some readers would take for the event's.
    if isinstance(event.content, dict):
        return f"{name}data: {json.dumps(event.content)}\n\n".encode()
    return b"".join((name.encode(), b"data: ", *json_pieces(event.content), b"\n\n"))


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
