"""What happens to every request before and after its endpoint, as plain ASGI: streams pass through untouched."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fictures.gateway import errors
from fictures.gateway.access import Access
from fictures.gateway.errors import CLIENT_GONE, ClientGone
from fictures.gateway.metrics import Metrics
from fictures.gateway.openapi import APIS

BODY_SECONDS = 60.0
"""Longest wait for the next piece of a body."""
WHOLE_BODY_SECONDS = 300.0
"""Longest wait for all of it."""
REQUEST_ID = "x-request-id"
_ALLOWED_ID = re.compile(r"[A-Za-z0-9_.:/@+=-]{1,128}")
_QUIET = ("/health", "/health/live", "/metrics")

_log = structlog.get_logger("fictures.gateway")


class Observe:
    """Gives a request its id (the caller's, if it sent a usable one), counts it and writes it down."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent if _ALLOWED_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        begun = False
        with self._metrics.request() as observation:

            async def observed_send(message: Message) -> None:
                nonlocal begun
                if message["type"] == "http.response.start":
                    begun = True
                    observation.status = str(message["status"])
                    MutableHeaders(scope=message)[REQUEST_ID] = request_id
                await send(message)

            try:
                await self._app(scope, receive, observed_send)
            except ClientGone:
                observation.status = str(CLIENT_GONE)
            except Exception as defect:
                _log.exception("the gateway failed")
                if begun:
                    raise
                await errors.on_defect(Request(scope), defect)(scope, receive, observed_send)
            finally:
                route = scope.get("route")
                observation.endpoint = getattr(route, "path", "unknown")
                if scope["path"] not in _QUIET:
                    _log.info(
                        "request",
                        method=scope["method"],
                        path=scope["path"].encode("unicode_escape").decode(),  # nothing that a terminal obeys
                        status=int(observation.status),
                        seconds=round(time.perf_counter() - began, 4),
                        caller=scope["state"].get("caller"),
                    )
                structlog.contextvars.unbind_contextvars("request_id")


class Guard:
    """Lets a request of the APIs in if its key and the limits allow, before anything of its body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(APIS):
            await self._app(scope, receive, send)
            return
        try:
            caller = self._access.identify(Headers(scope=scope))
            scope["state"]["caller"] = caller.name
            admission = self._access.admit(caller)
            admission.__enter__()
        except HTTPException as refusal:
            await errors.on_http_exception(Request(scope), refusal)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            admission.__exit__(None, None, None)


class BodyLimit:
    """Refuses bodies above a size, however they are sent, and those that do not come."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            await errors.on_http_exception(Request(scope), self._refusal())(scope, receive, send)
            return
        received, complete = 0, False
        end = asyncio.get_running_loop().time() + WHOLE_BODY_SECONDS

        async def limited_receive() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is the end of the connection
                return await receive()
            try:
                wait = min(BODY_SECONDS, end - asyncio.get_running_loop().time())
                async with asyncio.timeout(wait):
                    message = await receive()
            except TimeoutError:
                limits = f"{BODY_SECONDS:g} s for its next piece, {WHOLE_BODY_SECONDS:g} s for all"
                raise HTTPException(408, f"the body did not come in time: {limits}") from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._most:
                raise self._refusal()
            return message

        await self._app(scope, limited_receive, send)

    def _refusal(self) -> HTTPException:
        return HTTPException(413, f"the request's body is larger than {self._most} bytes")
