"""The asynchronous client. `client` is its mirror: the same methods, not to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fictures import image_request, server_state, text_request
from fictures.async_stream import AsyncStream, package_errors
from fictures.connection import Connection, Deadline, checked_timeout
from fictures.errors import FicturesError, ModelNotFound, ServerUnreachable, Unavailable
from fictures.responses import closed
from fictures.retries import PAUSE, Retries
from fictures.types import (
    ChatMessage,
    GeneratedImage,
    Health,
    ImageChunk,
    ImageOptions,
    ModelInfo,
    Sampling,
    TextChunk,
    TextResult,
)

T = TypeVar("T")


class AsyncClient:
    """A connection to a Fictures AI Server's Triton, over gRPC. Tasks of one event loop may share it.

    Args:
        url: host:port of Triton's gRPC endpoint. With several servers, a name that has the addresses of all, or
            address:port of each with commas between: requests go to them in turn.
        model: the text model that requests go to unless they name one.
        image_model: the image model, likewise; `<image_model>_stream` is the one that streams.
        timeout: seconds for a whole call; for a stream, seconds to wait for each next piece.
        ssl: encrypt the connection.
        root_certificates: PEM file of the authorities to trust; None: those that gRPC ships.
        private_key: PEM file of the client's key, for servers that ask for one.
        certificate_chain: PEM file of the client's certificate, with `private_key`.
        headers: gRPC metadata to send with every request.
        api_key: sent with every request as `authorization: Bearer …`.
        keepalive: seconds after which a silent connection is tested, and given up if nothing comes back within as
            many; None: never. Needs a server that allows it, as those of `./scripts/serve` do.

    Every method raises `fictures.FicturesError`; its subclasses, drawn in `fictures.errors`, say what failed.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        *,
        model: str = "gemma",
        image_model: str = "sdxl",
        timeout: float = 60.0,
        ssl: bool = False,
        root_certificates: str | Path | None = None,
        private_key: str | Path | None = None,
        certificate_chain: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        keepalive: float | None = None,
    ) -> None:
        self.url = url
        self.model = model
        self.image_model = image_model
        self.timeout = checked_timeout(timeout)
        self._connection = Connection.create(
            url,
            ssl=ssl,
            root_certificates=root_certificates,
            private_key=private_key,
            certificate_chain=certificate_chain,
            headers=headers,
            api_key=api_key,
            keepalive=keepalive,
        )
        self._metadata = self._connection.metadata
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def generate_text(
        self,
        prompt: str,
        *,
        model: str | None = None,
        lora: str | None = None,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> TextResult:
        """Continue `prompt` and return the whole text, without the prompt.

        Args:
            prompt: the text as the model sees it; no chat template is applied.
            model: the text model, if not the client's.
            lora: name of a LoRA adapter that the server knows.
            timeout: seconds for the whole call, if not the client's.
            sampling: `max_tokens`, `temperature`, `top_p`, `stop`, `seed` and the others of docs/text-model.md.
        """
        name = model or self.model
        parameters = text_request.sampling_parameters(sampling, lora)
        request = text_request.generation_request(name, prompt, parameters, stream=False)
        return text_request.parse_result(await self._collect(request, timeout), name)

    def stream_text(
        self,
        prompt: str,
        *,
        model: str | None = None,
        lora: str | None = None,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> AsyncStream[TextChunk]:
        """Continue `prompt` and yield the text as it is generated. Arguments as in `generate_text`."""
        parameters = text_request.sampling_parameters(sampling, lora)
        request = text_request.generation_request(model or self.model, prompt, parameters, stream=True)
        return self._stream(request, text_request.parse_chunk, timeout)

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        model: str | None = None,
        lora: str | None = None,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> TextResult:
        """Answer a chat and return the whole answer.

        Args:
            messages: the chat so far; the server renders it with the model's chat template.
            chat_template_kwargs: further variables for the chat template.
            model: the text model, if not the client's.
            lora: name of a LoRA adapter that the server knows.
            timeout: seconds for the whole call, if not the client's.
            sampling: as in `generate_text`.
        """
        name = model or self.model
        parameters = text_request.sampling_parameters(sampling, lora)
        request = text_request.chat_request(name, messages, chat_template_kwargs, parameters, stream=False)
        return text_request.parse_result(await self._collect(request, timeout), name)

    def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        model: str | None = None,
        lora: str | None = None,
        timeout: float | None = None,
        **sampling: Unpack[Sampling],
    ) -> AsyncStream[TextChunk]:
        """Answer a chat and yield the answer as it is generated. Arguments as in `chat`."""
        parameters = text_request.sampling_parameters(sampling, lora)
        request = text_request.chat_request(
            model or self.model, messages, chat_template_kwargs, parameters, stream=True
        )
        return self._stream(request, text_request.parse_chunk, timeout)

    async def generate_image(
        self,
        prompt: str,
        *,
        model: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ImageOptions],
    ) -> GeneratedImage:
        """Make one image of `prompt`.

        Args:
            prompt: what is to be seen.
            model: the image model, if not the client's.
            timeout: seconds for the whole call, if not the client's.
            options: `width`, `height`, `seed` and the others of `fictures.ImageOptions`.
        """
        images = await self.generate_images(prompt, model=model, timeout=timeout, **options)
        return images[0]

    async def generate_images(
        self,
        prompt: str,
        *,
        num_images: int = 1,
        model: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ImageOptions],
    ) -> list[GeneratedImage]:
        """Make `num_images` images of `prompt`, each with its own seed. Other arguments as in `generate_image`."""
        parameters = image_request.image_parameters(prompt, options)
        request = image_request.generation_request(model or self.image_model, parameters, num_images=num_images)
        response = await self._unary(self._stub.ModelInfer, request, self._deadline(timeout))
        return list(await asyncio.to_thread(image_request.parse_images, response, parameters))

    def stream_image(
        self,
        prompt: str,
        *,
        preview_every: int = 0,
        num_images: int = 1,
        model: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ImageOptions],
    ) -> AsyncStream[ImageChunk]:
        """Make images of `prompt` and yield an event for each denoising step, and the images in the last event.

        Args:
            prompt: what is to be seen.
            preview_every: with the event of every so many steps comes a small picture of each image; 0: none.
            num_images: how many images to make.
            model: the image model, one that streams, if not that of the client's.
            timeout: seconds to wait for each next event, if not the client's.
            options: as in `generate_image`.
        """
        parameters = image_request.image_parameters(prompt, options)
        request = image_request.stream_request(
            model or image_request.streaming_model(self.image_model),
            parameters,
            num_images=num_images,
            preview_every=preview_every,
        )
        return self._stream(request, image_request.ChunkParser(parameters), timeout, in_thread=True)

    async def infer(
        self, request: service_pb2.ModelInferRequest, *, timeout: float | None = None
    ) -> service_pb2.ModelInferResponse:
        """Send a request that you have written yourself to a model that answers once.

        Args:
            request: as `fictures.text_request`, `fictures.image_request` or `fictures.translation` write it.
            timeout: seconds for the whole call, if not the client's.
        """
        response: service_pb2.ModelInferResponse = await self._unary(
            self._stub.ModelInfer, request, self._deadline(timeout)
        )
        return response

    async def infer_all(
        self, request: service_pb2.ModelInferRequest, *, timeout: float | None = None
    ) -> Sequence[service_pb2.ModelInferResponse]:
        """Send a request to a decoupled model and return all its responses. Arguments as in `infer`."""
        return await self._collect(request, timeout)

    def infer_stream(
        self,
        request: service_pb2.ModelInferRequest,
        parse: Callable[[service_pb2.ModelInferResponse], T | None],
        *,
        timeout: float | None = None,
    ) -> AsyncStream[T]:
        """Send a request to a decoupled model and yield what `parse` makes of each response, unless that is None.

        Args:
            request: as in `infer`.
            parse: called with every response.
            timeout: seconds to wait for each next response, if not the client's.
        """
        return self._stream(request, parse, timeout)

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """List the models of the server's repository, with the tensors of those that are ready."""
        deadline = self._deadline(timeout)
        return [await self._described(model, deadline) for model in await self._index(deadline)]

    async def health(self, *, timeout: float | None = None) -> Health:
        """Ask whether the server and its models can answer now. Never raises for a server that is down.

        The text and the image model are not believed when they say that they are ready: their engines are asked.
        """
        try:
            deadline = self._deadline(timeout)
            live = await self._unary(self._stub.ServerLive, service_pb2.ServerLiveRequest(), deadline)
            ready = await self._unary(self._stub.ServerReady, service_pb2.ServerReadyRequest(), deadline)
            models = await self._index(deadline)
            probed = [await self._probe(model, deadline) for model in filter(self._is_probed, models)]
        except FicturesError as error:
            return server_state.unhealthy(str(error))
        return server_state.health_of(live=live.live, ready=ready.ready, models=models, probed=probed)

    async def probe(self, model: str, *, timeout: float | None = None) -> None:
        """Ask the engine behind a model whether it can take requests now; it does no work. Returns if it can.

        Args:
            model: the client's text model, its image model, or the one that streams images.
            timeout: seconds for the whole call, if not the client's.
        """
        if model == self.image_model:
            await self.infer(image_request.probe_request(model, stream=False), timeout=timeout)
        else:
            await self._collect(self._probe_request(model), timeout)

    async def aclose(self) -> None:
        """Close the connection and cancel the requests that are still under way."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def _stub(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        if self._closed:
            raise closed()
        return self._open_stub

    @cached_property
    def _open_stub(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        # gRPC binds a channel to the running event loop, and a client may be made before there is one.
        connection = self._connection
        if connection.credentials is None:
            self._channel = grpc.aio.insecure_channel(connection.target, options=connection.options)
        else:
            self._channel = grpc.aio.secure_channel(
                connection.target, connection.credentials, options=connection.options
            )
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._seconds(timeout))

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else checked_timeout(timeout)

    async def _index(self, deadline: Deadline) -> list[ModelInfo]:
        answer = await self._unary(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), deadline)
        return [server_state.model_from_index(entry) for entry in answer.models]

    async def _described(self, model: ModelInfo, deadline: Deadline) -> ModelInfo:
        if not model.ready:
            return model
        try:
            return server_state.with_metadata(model, await self._metadata_of(model, deadline))
        except (ModelNotFound, Unavailable) as error:  # unloaded since
            return replace(model, ready=False, reason=str(error))

    async def _metadata_of(self, model: ModelInfo, deadline: Deadline) -> service_pb2.ModelMetadataResponse:
        request = service_pb2.ModelMetadataRequest(name=model.name, version=model.version)
        return await self._unary(self._stub.ModelMetadata, request, deadline)

    def _is_probed(self, model: ModelInfo) -> bool:
        return model.ready and model.name in (self.model, image_request.streaming_model(self.image_model))

    def _probe_request(self, model: str) -> service_pb2.ModelInferRequest:
        return text_request.probe_request(model) if model == self.model else image_request.probe_request(model)

    async def _probe(self, model: ModelInfo, deadline: Deadline) -> ModelInfo:
        try:
            await self.probe(model.name, timeout=deadline.left())
        except FicturesError as error:
            return replace(model, ready=False, reason=str(error))
        return model

    async def _unary(self, method: Callable[..., Any], request: Any, deadline: Deadline) -> Any:
        retries = Retries()
        while True:
            try:
                with package_errors():
                    return await method(request, timeout=deadline.left(), metadata=self._metadata)
            except FicturesError as error:
                if not retries.allow(error):
                    raise
            await asyncio.sleep(PAUSE)

    def _call(self, request: service_pb2.ModelInferRequest, timeout: float | None) -> Any:
        return self._stub.ModelStreamInfer([request], timeout=timeout, metadata=self._metadata)

    def _stream(
        self,
        request: service_pb2.ModelInferRequest,
        parse: Callable[[service_pb2.ModelInferResponse], T | None],
        timeout: float | None,
        *,
        in_thread: bool = False,
    ) -> AsyncStream[T]:
        seconds = self._seconds(timeout)
        return AsyncStream(lambda: self._call(request, None), parse, seconds, in_thread=in_thread)

    async def _collect(
        self, request: service_pb2.ModelInferRequest, timeout: float | None
    ) -> Sequence[service_pb2.ModelInferResponse]:
        """Send a request and wait for all its responses; decoupled models answer over a stream only."""
        seconds = self._seconds(timeout)
        deadline = Deadline(seconds)
        try:
            stream = AsyncStream(lambda: self._call(request, deadline.left()), _as_it_is, seconds)
            return [response async for response in stream]
        except ServerUnreachable:
            deadline.left()  # grpc.aio now and then says this at the deadline
            raise


def _as_it_is(response: service_pb2.ModelInferResponse) -> service_pb2.ModelInferResponse:
    return response
