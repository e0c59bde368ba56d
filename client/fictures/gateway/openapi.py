"""What the OpenAPI document says beyond the routes' types: statuses, streams, examples."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from openai.types import Model
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


class ModelList(BaseModel):
    """All models, as OpenAI lists them."""

    object: Literal["list"] = "list"
    data: list[Model]


class TextModel(BaseModel):
    """A text model, as the Fictures API lists it."""

    id: str
    name: str
    type: str
    framework: str
    max_tokens: int
    status: str


class TextModels(BaseModel):
    """All text models."""

    models: list[TextModel]


class ImageModel(BaseModel):
    """An image model, as the Fictures API lists it."""

    id: str
    name: str
    type: str
    framework: str
    device: str
    status: str


class ImageModels(BaseModel):
    """All image models."""

    models: list[ImageModel]


APIS = ("/api/", "/v1/")
"""What the paths of the two APIs start with; all else is for everybody."""

Responses = dict[int | str, dict[str, Any]]

TEXT = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0.7}
STRUCTURED = (
    {"prompt": "Red or green?", "max_tokens": 24, "guided_decoding": {"type": "choice", "choice": ["red", "green"]}},
    {
        "prompt": "A person as JSON:",
        "max_tokens": 100,
        "guided_decoding": {
            "type": "json",
            "json": {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]},
        },
    },
)
IMAGE = {"prompt": "a lighthouse at night", "width": 256, "height": 256, "num_inference_steps": 6, "seed": 7}
CHAT = {"model": "gemma", "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 24}
COMPLETION = {"model": "gemma", "prompt": "Once upon a time", "max_tokens": 24}
IMAGES = {"model": "sdxl", "prompt": "a lighthouse at night", "size": "256x256", "num_inference_steps": 6}

TEXT_MODELS = {
    "models": [
        {
            "id": "gemma",
            "name": "google/gemma-2b-it",
            "type": "text-generation",
            "framework": "vllm",
            "max_tokens": 4096,
            "status": "ready",
        }
    ]
}
IMAGE_MODELS = {
    "models": [
        {
            "id": "sdxl",
            "name": "stabilityai/stable-diffusion-xl-base-1.0",
            "type": "image-generation",
            "framework": "diffusers",
            "device": "auto",
            "status": "ready",
        }
    ]
}
MODEL = {"id": "gemma", "object": "model", "created": 1750000000, "owned_by": "fictures"}
HEALTHY = {
    "status": "healthy",
    "reason": None,
    "models": {"gemma": "ready", "sdxl": "ready", "sdxl_stream": "ready"},
}
METRICS = """\
# HELP fictures_gateway_requests_running Requests under way.
# TYPE fictures_gateway_requests_running gauge
fictures_gateway_requests_running 3.0
"""

_COMMON = {
    400: "The request is wrong; the message names the parameter, its value and what is allowed.",
    401: "No API key was sent, or none that is known.",
    404: "There is no such model.",
    408: "The body did not come.",
    413: "The request's body is too large.",
    429: "Too many requests with this key; Retry-After says when to come again.",
    502: "Triton or the model failed.",
    503: "Triton cannot take requests now; Retry-After says when to come again.",
    504: "The answer did not come in time.",
}


def stream_of(*events: type[BaseModel]) -> Responses:
    """A stream of server-sent events, each holding one of these."""
    names = " or ".join(f"`{event.__name__}`" for event in events)
    content = {"text/event-stream": {"schema": {"type": "string", "description": f"Each event's data: {names}"}}}
    return {200: {"description": "The answer; server-sent events when it is streamed.", "content": content}}


def responses(answer: Responses | None = None) -> Responses:
    """The statuses of an endpoint of the Fictures API."""
    return {**{status: {"description": text, "model": Error} for status, text in _COMMON.items()}, **(answer or {})}


def openai_responses(answer: Responses | None = None) -> Responses:
    """The statuses of an endpoint of the OpenAI API."""
    described: Responses = {status: {"description": text, "model": OpenAIError} for status, text in _COMMON.items()}
    return {**described, **(answer or {})}


_KEY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
"""Ways to send an API key."""


def complete(app: FastAPI, *, asks_for_keys: bool) -> None:
    """Say in the document what FastAPI does not: that OpenAI's API has no 422, and which requests need a key."""
    whole = app.openapi

    def document() -> dict[str, Any]:
        described = whole()
        for path, operations in described["paths"].items():
            for operation in operations.values():
                if path.startswith("/v1/"):
                    operation["responses"].pop("422", None)
                if asks_for_keys and path.startswith(APIS):
                    operation["security"] = [{name: []} for name in _KEY]
        if asks_for_keys:
            described["components"]["securitySchemes"] = _KEY
        return described

    app.openapi = document  # type: ignore[method-assign]


def answer_example(content: Any, media_type: str = "application/json") -> Responses:
    """What an endpoint answers when all is well, shown on its page."""
    return {200: {"content": {media_type: {"example": content}}}}


def body_examples(*examples: dict[str, Any]) -> dict[str, Any]:
    """Bodies to try an endpoint with, shown on its page."""
    named = {f"example {number}": {"value": example} for number, example in enumerate(examples, 1)}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}
