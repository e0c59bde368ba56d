"""What the tests of the gateway share: a gateway without any Triton, requests to it, and its answers read."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fictures import Settings
from fictures.gateway.app import create_app
from fictures.settings import VARIABLES

NOWHERE = "127.0.0.1:1"
TEXT, CHAT = "/api/v1/text/generate", "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    TEXT: {"prompt": "Once"},
    "/api/v1/text/structured": {"prompt": "Once", "guided_decoding": {"type": "json", "json": {}}},
    "/api/v1/text/stream": {"prompt": "Once"},
    "/api/v1/images/generate": {"prompt": "harbour"},
    "/api/v1/images/stream": {"prompt": "harbour", "preview_every": 5},
    CHAT: {"model": "gemma", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "gemma", "prompt": "Once"},
    "/v1/images/generations": {"prompt": "harbour"},
}
"""The smallest bodies."""
LISTS = ["/api/v1/text/models", "/api/v1/images/models", "/v1/models", "/v1/models/gemma"]
POSTS = pytest.mark.parametrize("path", list(BODIES))
BOTH = pytest.mark.parametrize("path", [TEXT, CHAT])
JSON = {"content-type": "application/json"}
ORIGIN = "https://page.example"


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(VARIABLES) & set(os.environ):
        monkeypatch.delenv(name)


@pytest.fixture
def silent_triton() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@cache
def plain_app() -> FastAPI:
    """A gateway of the default settings, made once: tests leave nothing behind in it."""
    return create_app(Settings(triton_url=NOWHERE))


@asynccontextmanager
async def gateway(*, raises: bool = True, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with these settings. What the gateway raises is raised here, unless that is what it is
    asked about.
    """
    app = create_app(Settings(**{"triton_url": NOWHERE} | settings)) if settings else plain_app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch()
    return path


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def is_openai(path: str) -> bool:
    return path.startswith("/v1/")


def message(response: httpx.Response) -> str:
    """What an answer says is wrong, which has to be in the shape of its API and in no other."""
    body = response.json()
    if not is_openai(response.request.url.path):
        assert list(body) == ["detail"]
        detail = body["detail"]
        return detail if isinstance(detail, str) else "; ".join(error["msg"] for error in detail)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    told: str = body["error"]["message"]
    return told
