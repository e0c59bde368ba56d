"""What the OpenAPI document says beyond the routes' types: the statuses an endpoint may answer with, and streams."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Error(BaseModel):
    """What went wrong."""

    detail: str


class OpenAIErrorContent(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """What went wrong, as OpenAI's SDK parses it."""

    error: OpenAIErrorContent


Responses = dict[int | str, dict[str, Any]]

_COMMON = {
    400: "The request is wrong; the message names the parameter, its value and what is allowed.",
    401: "No API key was sent, or none that is known.",
    404: "There is no such model.",
    413: "The request's body is too large.",
    429: "Too many requests with this key; Retry-After says when to come again.",
    502: "Triton or the model failed.",
    503: "Triton cannot take requests now; Retry-After says when to come again.",
    504: "The answer did not come in time.",
}


def STREAM_OF(*events: type[BaseModel]) -> Responses:
    """A stream of server-sent events, each holding one of these."""
    schemas = [{"$ref": f"#/components/schemas/{event.__name__}"} for event in events]
    content = {"text/event-stream": {"schema": {"type": "string", "contentSchema": {"anyOf": schemas}}}}
    return {200: {"description": "Server-sent events.", "content": content}}


def responses(stream: Responses | None = None) -> Responses:
    """The statuses of an endpoint of the Fictures API."""
    return {**{status: {"description": text, "model": Error} for status, text in _COMMON.items()}, **(stream or {})}


def openai_responses(stream: Responses | None = None) -> Responses:
    """The statuses of an endpoint of the OpenAI API."""
    described: Responses = {status: {"description": text, "model": OpenAIError} for status, text in _COMMON.items()}
    return {**described, **(stream or {})}
