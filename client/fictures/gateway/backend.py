"""Triton as the endpoints see it: calls in, values out, each with the request's id and the gateway's bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fictures.async_client import AsyncClient
from fictures.async_stream import AsyncStream
from fictures.errors import ServerError
from fictures.gateway.metrics import Metrics
from fictures.translation.answers import (
    ImageEvent,
    ImageFile,
    ImageStep,
    TextAnswer,
    TextReader,
    joined,
    read_image_event,
    read_images,
)
from fictures.translation.calls import ImageCall, TextCall


class Backend:
    """The Triton behind the gateway; texts and images may each have their own."""

    def __init__(self, text: AsyncClient, images: AsyncClient, metrics: Metrics) -> None:
        self._text = text
        self._images = images
        self._metrics = metrics

    async def text(self, call: TextCall, request_id: str) -> TextAnswer:
        """The whole texts that answer a call.

        Raises:
            FicturesError: as `fictures.errors` says.
        """
        request = call.to_triton(stream=False, request_id=request_id)
        read = TextReader()
        answers = [read(response) for response in await self._text.infer_all(request)]
        answer = joined([answer for answer in answers if answer is not None])
        if not read.is_complete(call.choices):
            raise _unfinished()
        self._metrics.text_done(answer)
        return answer

    async def stream_text(self, call: TextCall, request_id: str) -> AsyncGenerator[TextAnswer]:
        """What is new, as it comes. Raises as `text` does; closing it cancels the call."""
        request = call.to_triton(stream=True, request_id=request_id)
        reader = TextReader()
        with self._metrics.text_stream() as observed:
            async with self._text.infer_stream(request, reader) as answers:
                async for answer in answers:
                    observed.answer(answer)
                    yield answer
        if not reader.is_complete(call.choices):
            raise _unfinished()

    async def images(self, call: ImageCall, request_id: str) -> tuple[ImageFile, ...]:
        """The images that answer a call. Raises as `text` does."""
        response = await self._images.infer(call.to_triton(stream=False, request_id=request_id))
        files = read_images(response)
        if not files:
            raise ServerError("the server answered without an image")
        self._metrics.images_done(len(files))
        return files

    async def stream_images(self, call: ImageCall, request_id: str) -> AsyncGenerator[ImageEvent]:
        """Each step, and the images at the end. Raises as `text` does; closing it cancels the call."""
        request = call.to_triton(stream=True, request_id=request_id)
        drawn = False
        stream: AsyncStream[ImageEvent] = self._images.infer_stream(request, read_image_event)
        async with stream as events:
            async for event in events:
                if not isinstance(event, ImageStep):
                    drawn = True
                    self._metrics.images_done(len(event))
                yield event
        if not drawn:
            raise ServerError("the server answered without an image")


def _unfinished() -> ServerError:
    return ServerError("the server ended a text without saying why")
