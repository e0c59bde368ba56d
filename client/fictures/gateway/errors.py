"""Errors as HTTP answers: OpenAI's body under `/v1`, FastAPI's elsewhere; and as the last event of a stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from reprlib import Repr
from typing import Any

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fictures.errors import (
    Cancelled,
    DeadlineExceeded,
    FicturesError,
    InvalidRequest,
    ModelNotFound,
    ServerUnreachable,
    Unavailable,
)
from fictures.translation.fictures_api import ErrorEvent

_log = structlog.get_logger("fictures.gateway")

RETRY_AFTER = 5
"""Seconds: a restarted engine is back in about as many."""
CLIENT_GONE = 499
"""Nginx's status for a client that closed its connection; nobody reads it but logs and metrics."""
MOST_ERRORS = 20
"""Told of at once, of a body that is wrong."""
MOST_SHOWN = 200
"""Characters of a wrong value."""

_STATUSES: tuple[tuple[type[FicturesError], int], ...] = (
    (InvalidRequest, 400),
    (ModelNotFound, 404),
    (Unavailable, 503),
    (DeadlineExceeded, 504),
    (Cancelled, 503),  # by Triton, as it unloads the model: the caller did not ask for it
)
_BRIEF = {
    502: "Triton or the model failed; the log says more",
    503: "requests cannot be taken now; the log says more",
}
_DEFECT = "the gateway failed; its log says more"
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded", 503: "unavailable", 504: "timeout"}

_NAMED = re.compile(r"([a-z][a-z0-9_.]*)(: |=)")


class ClientGone(Exception):
    """The client closed its connection before its answer was complete."""


def words(error: FicturesError, request: Request) -> str:
    """The error in words for whoever sent the request. The words of a server that failed name its files and settings:
    they are for callers whom the health check tells them as well. Where Triton is, nobody is told.
    """
    if isinstance(error, ServerUnreachable):
        return "Triton cannot be reached"
    if isinstance(error, Cancelled):
        return "the request was ended: the gateway is stopping, or the model was unloaded"
    brief = _BRIEF.get(http_status(error))
    return str(error) if brief is None or request.app.state.access.knows(request.headers) else brief


def http_status(error: FicturesError) -> int:
    """The status of an answer that is this error; 502: the Triton behind failed, or refused the gateway."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 502)


def on_fictures_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with an error of Triton or of the translation."""
    assert isinstance(error, FicturesError)
    status = http_status(error)
    if status >= 500:
        _log.warning("request failed", error=str(error), status=status)
    return _response(request, status, words(error, request), _parameter_of(error), error=error)


def on_invalid_body(request: Request, error: Exception) -> JSONResponse:
    """Answer a body that is not what the endpoint takes: 422 with its errors, in OpenAI's API 400 with one."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors[0]["loc"] == ("body",) and errors[0]["type"] == "model_attributes_type":
        errors[0]["msg"] = "the body must be a JSON object, sent with content-type: application/json"
    if not is_openai(request):
        return JSONResponse({"detail": [_as_json(item) for item in errors[:MOST_ERRORS]]}, 422)
    # Of a union each branch tells what it misses; the one that came furthest is what was meant.
    meant = max(errors, key=lambda item: len(item["loc"]))
    if meant["type"] == "json_invalid":
        return _response(request, 400, "the body is not JSON", None)
    place = _place(meant["loc"], error.body, is_missing=meant["type"] == "missing")
    if not place and (named := _NAMED.match(meant["msg"])):  # a rule between fields
        return _response(request, 400, meant["msg"], named[1])
    if meant["type"] == "extra_forbidden":
        return _response(request, 400, f"{place}: not supported", place, code="unsupported_parameter")
    return _response(request, 400, f"{place}: {meant['msg']}" if place else meant["msg"], place or None)


def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer with an error of the gateway's own."""
    assert isinstance(error, HTTPException)
    response = _response(request, error.status_code, str(error.detail), None)
    response.headers.update(error.headers or {})
    return response


def on_defect(request: Request, error: Exception) -> JSONResponse:
    """Answer when the gateway itself is at fault; the log has the traceback."""
    return _response(request, 500, _DEFECT, None)


def event(error: FicturesError | None, request: Request) -> dict[str, Any]:
    """The content of the event that ends a stream which failed; without an error the gateway itself is at fault."""
    status, message = (http_status(error), words(error, request)) if error else (500, _DEFECT)
    if is_openai(request):
        return openai_body(status, message, _parameter_of(error))
    return ErrorEvent(error=message, status=status).model_dump()


def openai_body(status: int, message: str, parameter: str | None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's SDK parses it."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {"message": message, "type": kind, "param": parameter, "code": code or _CODES.get(status)},
    }


def _response(
    request: Request,
    status: int,
    message: str,
    parameter: str | None,
    *,
    code: str | None = None,
    error: FicturesError | None = None,
) -> JSONResponse:
    if isinstance(error, ModelNotFound):
        parameter, code = "model", "model_not_found"
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    body = openai_body(status, message, parameter, code) if is_openai(request) else {"detail": message}
    return JSONResponse(body, status, headers)


def is_openai(request: Request) -> bool:
    """Whether a request is one of the OpenAI API."""
    return request.url.path.startswith("/v1/")


def _parameter_of(error: FicturesError | None) -> str | None:
    """The server's messages about a wrong request start with the name of the parameter."""
    match = _NAMED.match(str(error)) if isinstance(error, InvalidRequest) else None
    return match[1] if match else None


def _place(location: Sequence[Any], body: Any, *, is_missing: bool) -> str:
    """Where in the body an error is. Pydantic's location also names the branches of unions
    (`body.content.list[tagged-union[…]].0`), which the body does not have.
    """
    found: list[str] = []
    here = body
    for number, part in enumerate(location[1:], 2):
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if inside:
            here = here[part]
        if inside or (is_missing and number == len(location)):
            found.append(str(part))
    return ".".join(found)


class _Glimpse(Repr):
    """Writes no more of a value than is shown, however large it is."""

    def repr_dict(self, fields: dict[Any, Any], level: int) -> str:
        first = islice(fields.items(), self.maxdict + 1)  # all would be sorted
        return super().repr_dict(dict(first), level)

    def repr_bytes(self, content: bytes, level: int) -> str:
        return self.repr_instance(content[: self.maxother], level)


_glimpse = _Glimpse()
_glimpse.maxlevel, _glimpse.maxstring, _glimpse.maxother = 2, MOST_SHOWN, MOST_SHOWN


def _as_json(item: dict[str, Any]) -> dict[str, Any]:
    """A validation error as JSON can carry it: no exceptions, no NaN, and of the input not more than a glimpse."""
    shown = _glimpse.repr(item.get("input"))
    return {
        "type": item["type"],
        "loc": list(item["loc"]),
        "msg": item["msg"],
        "input": shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…",
    }
