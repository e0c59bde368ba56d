"""How an answer travels: work that ends with its client, and streams of server-sent events that always end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

import structlog
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from fictures.errors import FicturesError, ServerError
from fictures.gateway import errors
from fictures.gateway.endpoints import ENDPOINTS, Endpoint, Event
from fictures.gateway.errors import ClientGone
from fictures.gateway.writing import json_pieces

PING_SECONDS = 15
"""A comment is sent this often in a stream that is silent, so that no proxy ends it."""

SEND_SECONDS = 60.0
"""A client that takes nothing of its answer for so long counts as gone."""

_AT_ONCE = 2**20
"""Bytes of a whole answer that are sent at once."""

_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def _until(sign: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """What is done here ends when `sign`, that the client has gone, returns.

    Raises:
        ClientGone: it did.
    """
    try:
        async with asyncio.timeout(None) as staying:

            async def watch() -> None:
                await sign()
                staying.reschedule(0)

            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if staying.expired():
            raise ClientGone from None
        raise


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
    async with _until(lambda: _disconnection(request.receive)):
        if endpoint.names_model:
            await request.app.state.catalog.check(endpoint.calls)
        if endpoint.streams:
            events = endpoint.events(backend, request_id)
            return EventStream(events, _sent(await _first(events), events, request, endpoint))
        whole = await endpoint.whole(backend, request_id)
    if endpoint.has_files:
        return _WholeAnswer(await asyncio.to_thread(json_pieces, whole))
    return _WholeAnswer([whole.model_dump_json(exclude_unset=True).encode()])


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
                await _send(send, _body(piece[start : start + _AT_ONCE]))
        await _send(send, _body(b"", more=False))


class EventStream(StreamingResponse):
    """Server-sent events, and a comment where none has come for `PING_SECONDS`.

    Closes its events also if nothing of it was ever sent.

    Args:
        events: what is closed at the end.
        sent: what of them is sent.

    Raises:
        ClientGone: the client went, or took nothing for `SEND_SECONDS`.
    """

    # FastAPI reads the status, which never is another one, from this signature; a media type of the class it would take
    # for that of errors, too.
    def __init__(self, events: AsyncGenerator[Event], sent: AsyncIterator[bytes], status_code: int = 200) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(sent, status_code, headers, "text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = _Sender(send)
        try:
            async with _until(lambda: _disconnection(receive)), _until(sender.watch):
                await self.stream_response(sender)
        finally:
            await self._events.aclose()


class _Sender:
    """Sends a stream's messages; beside it, `watch` looks after what there may be thousands of a second."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._since = self._time()  # when it last began or ended to send

    async def __call__(self, message: Message) -> None:
        async with self._turn:
            self._since = self._time()
            await self._send(message)
            self._since = self._time()

    async def watch(self) -> None:
        """Return when the client has taken nothing for `SEND_SECONDS`; meanwhile, send a comment where nothing else is
        sent.
        """
        while True:
            patience = SEND_SECONDS if self._turn.locked() else PING_SECONDS
            silent = self._time() - self._since
            if silent < patience:
                await asyncio.sleep(min(patience - silent, PING_SECONDS, SEND_SECONDS))  # or until that is another one
            elif self._turn.locked():
                return
            else:
                try:
                    await _send(self, _body(b": ping\n\n"))
                except ClientGone:
                    return


async def _send(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)
    except TimeoutError:
        raise ClientGone from None


def _body(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


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
