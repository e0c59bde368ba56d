"""Which models Triton has, told in the words of each API, and whether they can do what is asked of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Literal

from async_lru import alru_cache
from openai.types import Model

from fictures.async_client import AsyncClient
from fictures.errors import InvalidRequest, ModelNotFound
from fictures.gateway.endpoints import IMAGE_MODEL, TEXT_MODEL
from fictures.gateway.openapi import ImageModel, TextModel
from fictures.settings import Settings
from fictures.translation.calls import ImageCall, TextCall
from fictures.types import ModelInfo

Kind = Literal["text", "image"]
Models = Mapping[str, tuple[ModelInfo, Kind]]

FRESH_SECONDS = 1.0
"""How old a list of models may be: however many ask, and for whatever, Triton is asked this often at most."""

_READ_SECONDS = 10.0


class Catalog:
    """The models of Triton's repository that the APIs can use, told from their inputs. Texts and images may each have
    a Triton; one that is away takes only its own models along.
    """

    def __init__(self, text: AsyncClient, images: AsyncClient, settings: Settings) -> None:
        self._settings = settings
        self._started = int(time.time())
        lists = {client: _ModelList(client) for client in (text, images)}
        self._text, self._images = lists[text], lists[images]

    async def text_models(self) -> list[TextModel]:
        """The text models that the Fictures API uses."""
        return [
            TextModel(
                id=model.name,
                name=self._settings.text_model_name or model.name,
                type="text-generation",
                framework="vllm",
                max_tokens=self._settings.text_max_model_len,
                status=_status(model),
            )
            for name, (model, _) in (await self._text.recent()).items()
            if name == TEXT_MODEL
        ]

    async def image_models(self) -> list[ImageModel]:
        """The image models that the Fictures API uses."""
        return [
            ImageModel(
                id=model.name,
                name=self._settings.image_model_name or model.name,
                type="image-generation",
                framework="diffusers",
                device="auto",
                status=_status(model),
            )
            for name, (model, _) in (await self._images.recent()).items()
            if name == IMAGE_MODEL
        ]

    async def openai_models(self) -> list[Model]:
        """All models that can be asked for now, as the OpenAI API lists them."""
        return [self._openai_model(name) for name in await self._all()]

    async def openai_model(self, name: str) -> Model:
        """One model. Raises `ModelNotFound`."""
        models = await self._all()
        if name not in models:
            raise _unknown(name, models)
        return self._openai_model(name)

    async def check(self, calls: Iterable[TextCall | ImageCall]) -> None:
        """Whether the models can do what is asked of them. One that is not ready passes, and one that is gone since
        the list was read last: Triton says why it is not there, and no request waits for a list.

        Raises:
            ModelNotFound: there is none of this name.
            InvalidRequest: it is of the other kind.
        """
        for call in calls:
            kind: Kind = "text" if isinstance(call, TextCall) else "image"
            own = self._text if kind == "text" else self._images
            if call.model in own.last and own.last[call.model][1] == kind:
                continue
            models = await own.recent()
            if call.model not in models:
                models = await self._all()
            if call.model not in models:
                raise _unknown(call.model, models)
            if models[call.model][1] != kind:
                raise InvalidRequest(f"model: {call.model!r} is not allowed: it is no {kind} model")

    async def _all(self) -> Models:
        if self._text is self._images:
            return await self._text.recent()
        found = await asyncio.gather(self._text.recent(), self._images.recent(), return_exceptions=True)
        lists = [models for models in found if not isinstance(models, BaseException)]
        if not lists:
            raise next(error for error in found if isinstance(error, BaseException))
        return {name: model for models in lists for name, model in models.items()}

    def _openai_model(self, name: str) -> Model:
        return Model(id=name, object="model", created=self._started, owned_by="fictures")


class _ModelList:
    """The models of one Triton that the APIs can use, each with its kind. Raises `FicturesError` while it is away."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        # A model that is not ready does not tell its inputs.
        self._kinds: dict[str, Kind] = {TEXT_MODEL: "text", IMAGE_MODEL: "image"}
        self.last: Models = {}
        """As it was read last, however long ago."""
        # All who ask at the same time share one reading.
        self.recent = alru_cache(maxsize=1, ttl=FRESH_SECONDS)(self._read)

    async def _read(self) -> Models:
        models = await self._client.models(timeout=min(_READ_SECONDS, self._client.timeout))
        for model in models:
            if model.ready:
                self._kinds.pop(model.name, None)
                if kind := _kind_of({tensor.name for tensor in model.inputs}):
                    self._kinds[model.name] = kind
        self.last = {model.name: (model, self._kinds[model.name]) for model in models if model.name in self._kinds}
        return self.last


def _unknown(name: str, models: Models) -> ModelNotFound:
    return ModelNotFound(f"model: {name!r} is not here; there are {', '.join(models) or 'none that is ready'}")


def _status(model: ModelInfo) -> str:
    return "ready" if model.ready else "unavailable"


def _kind_of(inputs: set[str]) -> Kind | None:
    if "text_input" in inputs:
        return "text"
    # Its streaming half takes `preview_every`, and is asked for by the name of the other.
    return "image" if "prompt" in inputs and "preview_every" not in inputs else None
