"""Whether texts and images can be made now, and what is down if not."""

from __future__ import annotations

import asyncio
import contextlib

from async_lru import alru_cache
from pydantic import BaseModel

from fictures.async_client import AsyncClient
from fictures.errors import FicturesError
from fictures.gateway.endpoints import IMAGE_MODEL, TEXT_MODEL
from fictures.image_request import streaming_model
from fictures.server_state import READY
from fictures.settings import Settings

TIMEOUT = 5.0
"""Longest wait for Triton's answers, in seconds."""
FRESH_SECONDS = 1.0
"""How old an answer may be: however many ask, Triton is asked this often at most."""


class HealthReport(BaseModel):
    """Whether texts and images can be made now."""

    status: str
    reason: str | None
    models: dict[str, str]

    @property
    def is_healthy(self) -> bool:
        """Whether both can."""
        return self.reason is None

    def brief(self) -> HealthReport:
        """The same without the words of Triton and the models, which name files and settings of the server."""
        return _report({name: state if state == READY else "unavailable" for name, state in self.models.items()})


class HealthCheck:
    """Asks the engines themselves. Of several servers it is enough that one can."""

    def __init__(self, text: AsyncClient, images: AsyncClient, settings: Settings) -> None:
        self._clients = {TEXT_MODEL: text} if "text" in settings.serve else {}
        if "images" in settings.serve:
            self._clients |= {IMAGE_MODEL: images, streaming_model(IMAGE_MODEL): images}
        # All who ask at the same time share one question.
        self.report = alru_cache(maxsize=1, ttl=FRESH_SECONDS)(self._ask)

    async def _ask(self) -> HealthReport:
        states = await asyncio.gather(*(_state(client, model) for model, client in self._clients.items()))
        return _report(dict(zip(self._clients, states, strict=True)))


async def _state(client: AsyncClient, model: str) -> str:
    try:
        await client.probe(model, timeout=TIMEOUT)
    except FicturesError as error:
        return await _why_not_loaded(client, model) or str(error)
    return READY


async def _why_not_loaded(client: AsyncClient, model: str) -> str | None:
    """What Triton says of a model that it could not load; None if that is not it."""
    with contextlib.suppress(FicturesError):
        for found in await client.models(timeout=TIMEOUT):
            if found.name == model and not found.ready:
                return found.reason
    return None


def _report(models: dict[str, str]) -> HealthReport:
    down = next((f"{name}: {state}" for name, state in models.items() if state != READY), None)
    return HealthReport(status="unhealthy" if down else "healthy", reason=down, models=models)
