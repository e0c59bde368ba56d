"""Which models Triton has, told in the words of each API."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from openai.types import Model

from fictures.async_client import AsyncClient
from fictures.errors import InvalidRequest, ModelNotFound
from fictures.settings import Settings
from fictures.types import ModelInfo

Kind = Literal["text", "image"]

FRESH_SECONDS = 5.0
"""How old a list of models may be that a request is checked against."""


_READ_SECONDS = 10.0


class Catalog:
    """The models of Triton's repository that the APIs can use, told from their inputs."""

    def __init__(self, client: AsyncClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._started = int(time.time())
        self._models: dict[str, ModelInfo] = {}
        self._kinds: dict[str, Kind] = {client.model: "text", client.image_model: "image"}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[dict[str, ModelInfo]] | None = None

    async def fictures_models(self, kind: Kind) -> list[dict[str, Any]]:
        """The models of a kind, as the Fictures API lists them."""
        models = [model for name, model in (await self._read()).items() if self._kinds[name] == kind]
        return [self._text_model(model) if kind == "text" else self._image_model(model) for model in models]

    async def openai_models(self) -> list[Model]:
        """All models, as the OpenAI API lists them."""
        return [self._openai_model(name) for name in await self._read()]

    async def openai_model(self, name: str) -> Model:
        """One model. Raises `ModelNotFound`."""
        if name not in await self._read():
            raise self._unknown(name)
        return self._openai_model(name)

    async def check_model(self, name: str, kind: Kind) -> None:
        """Whether a model can do what is asked of it. One that is not ready passes: Triton says why it is not.

        Raises:
            ModelNotFound: there is none of this name.
            InvalidRequest: it is of the other kind.
        """
        if not self._knows(name):
            await self._read_together()
        if name not in self._models:
            raise self._unknown(name)
        if self._kinds[name] != kind:
            raise InvalidRequest(f"model: {name!r} is not allowed: it is no {kind} model")

    def _knows(self, name: str) -> bool:
        return name in self._models and time.monotonic() - self._read_at < FRESH_SECONDS

    async def _read_together(self) -> None:
        """Read once for all who wait; one that goes away does not take the others along."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> dict[str, ModelInfo]:
        models = await self._client.models(timeout=min(_READ_SECONDS, self._client.timeout))
        for model in models:
            if model.ready:
                self._kinds.pop(model.name, None)
                if kind := _kind_of({tensor.name for tensor in model.inputs}):
                    self._kinds[model.name] = kind
        self._models = {model.name: model for model in models if model.name in self._kinds}
        self._read_at = time.monotonic()
        return self._models

    def _unknown(self, name: str) -> ModelNotFound:
        return ModelNotFound(
            f"model: {name!r} is not here; there are {', '.join(self._models) or 'none that is ready'}"
        )

    def _openai_model(self, name: str) -> Model:
        return Model(id=name, object="model", created=self._started, owned_by="fictures")

    def _text_model(self, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": model.name,
            "name": self._settings.text_model_name or model.name,
            "type": "text-generation",
            "framework": "vllm",
            "max_tokens": self._settings.text_max_model_len,
            "status": "ready" if model.ready else "unavailable",
        }

    def _image_model(self, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": model.name,
            "name": self._settings.image_model_name or model.name,
            "type": "image-generation",
            "framework": "diffusers",
            "device": "auto",
            "status": "ready" if model.ready else "unavailable",
        }


def _kind_of(inputs: set[str]) -> Kind | None:
    if "text_input" in inputs:
        return "text"
    # Its streaming half takes `preview_every`, and is asked for by the name of the other.
    return "image" if "prompt" in inputs and "preview_every" not in inputs else None
