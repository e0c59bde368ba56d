"""Triton's answers to the OpenAI API's image responses; the schemas are those of OpenAI's own package."""

from __future__ import annotations

import io
from collections.abc import Sequence

import PIL.Image
from openai.types import Image, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse

from fictures.translation.answers import ImageFile, ImageStep, base64_text
from fictures.translation.openai_requests import ImagesRequest

ImageEvent = ImageGenPartialImageEvent | ImageGenCompletedEvent


def images_response(files: Sequence[ImageFile], request: ImagesRequest, created: int) -> ImagesResponse:
    """The body that answers an `ImagesRequest`. Each image has one field more than OpenAI's: its seed."""
    images = [Image.model_validate({"b64_json": base64_text(file.data), "seed": file.seed}) for file in files]
    size = _size(request, files[0])
    return ImagesResponse(created=created, data=images, size=size, output_format=request.output_format)


class ImageEvents:
    """Turns the responses of an image stream into its events."""

    def __init__(self, request: ImagesRequest, created: int) -> None:
        self._request = request
        self._created = created
        self._partial_images = 0

    def __call__(self, event: ImageStep | tuple[ImageFile, ...]) -> ImageEvent | None:
        """The event that tells of a preview or of the image; None of a step whose preview was not asked for."""
        if not isinstance(event, ImageStep):
            (file,) = event
            return ImageGenCompletedEvent.model_validate(
                {
                    **self._common(file.data, self._request.output_format, _size(self._request, file)),
                    "type": "image_generation.completed",
                    "usage": _NO_TOKENS,
                    "seed": file.seed,
                }
            )
        is_due = event.step % self._request.steps_to_a_preview(event.total_steps) == 0
        if not event.previews or not is_due or self._partial_images >= self._request.partial_images:
            return None
        self._partial_images += 1
        return ImageGenPartialImageEvent.model_validate(
            {
                **self._common(event.previews[0], "jpeg", self._request.size),
                "type": "image_generation.partial_image",
                "partial_image_index": self._partial_images - 1,
            }
        )

    def _common(self, data: bytes, output_format: str, size: str) -> dict[str, object]:
        return {
            "b64_json": base64_text(data),
            "created_at": self._created,
            "background": "opaque",
            "quality": "auto",
            "size": size,
            "output_format": output_format,
        }


def _size(request: ImagesRequest, file: ImageFile) -> str:
    """Of the image that answers the request, as `WIDTHxHEIGHT`."""
    if request.sides:
        return request.size
    width, height = PIL.Image.open(io.BytesIO(file.data)).size  # reads no more than the file's head
    return f"{width}x{height}"


_NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""The image model counts none, and OpenAI's schema asks for the numbers."""
