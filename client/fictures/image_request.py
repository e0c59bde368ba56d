"""Image requests: arguments to the tensors of models `sdxl` and `sdxl_stream`, and their responses back to values.

`sdxl` answers once; `sdxl_stream` also tells of each denoising step. The server checks the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2

from fictures import image_files
from fictures.errors import InvalidRequest, ServerError
from fictures.responses import is_final
from fictures.tensors import add_input, first_of, outputs_of
from fictures.types import GeneratedImage, ImageChunk, ImageOptions

INPUTS = {
    "prompt": "BYTES",
    "negative_prompt": "BYTES",
    "width": "INT32",
    "height": "INT32",
    "num_inference_steps": "INT32",
    "guidance_scale": "FP32",
    "seed": "INT64",
    "scheduler": "BYTES",
    "output_format": "BYTES",
    "num_images": "INT32",
    "preview_every": "INT32",
}
"""Input tensors, each of shape [1], to their types."""


def streaming_model(model: str) -> str:
    """The model that streams what image model `model` answers in one response."""
    return f"{model}_stream"


def image_parameters(prompt: str, options: ImageOptions) -> dict[str, Any]:
    """Put together what makes an image. An option of None is left to the server's default.

    Raises:
        InvalidRequest: there is no such option.
    """
    known = ImageOptions.__annotations__
    for name in options:
        if name not in known:
            raise InvalidRequest(f"{name}: no such image option; there are {', '.join(known)}")
    return {"prompt": prompt} | {name: value for name, value in options.items() if value is not None}


def generation_request(model: str, parameters: Mapping[str, Any], *, num_images: int) -> service_pb2.ModelInferRequest:
    """Ask `model` for images in one response; `parameters` are those of `image_parameters`.

    Raises:
        InvalidRequest: a value does not fit its tensor's type.
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, value in parameters.items():
        add_input(request, name, INPUTS[name], [value])
    if num_images != 1:
        add_input(request, "num_images", INPUTS["num_images"], [num_images])
    return request


def stream_request(
    model: str, parameters: Mapping[str, Any], *, num_images: int, preview_every: int
) -> service_pb2.ModelInferRequest:
    """Ask `model` for images and what they look like every `preview_every` steps. Otherwise as `generation_request`."""
    request = generation_request(model, parameters, num_images=num_images)
    # Without this Triton keeps an empty final response to itself, and the stream's end goes unsaid.
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    if preview_every != 0:
        add_input(request, "preview_every", INPUTS["preview_every"], [preview_every])
    return request


def probe_request(model: str, *, stream: bool = True) -> service_pb2.ModelInferRequest:
    """Ask `model` whether its engine can take a request: no image at once, or UNAVAILABLE. `stream`: it streams."""
    write = partial(stream_request, preview_every=0) if stream else generation_request
    request = write(model, {"prompt": ""}, num_images=1)
    request.parameters["health_check"].bool_param = True
    return request


def parse_images(response: service_pb2.ModelInferResponse, parameters: Mapping[str, Any]) -> tuple[GeneratedImage, ...]:
    """Read the images of a response; `parameters` are those of its request.

    Raises:
        ServerError: there are none, one is not a whole image file, or one has no seed.
    """
    images = _images(outputs_of(response), parameters)
    if not images:
        raise _no_image()
    return images


class ChunkParser:
    """Reads the responses of one stream. It knows how many steps there are, which the last response does not say."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._total_steps = 0
        self._drawn = False

    def __call__(self, response: service_pb2.ModelInferResponse) -> ImageChunk | None:
        """Read one response; None when it carries nothing, as an empty final response does.

        Raises:
            ServerError: a file cannot be read, or the stream's end comes without an image.
        """
        outputs = outputs_of(response)
        self._total_steps = first_of(outputs, "total_steps") or self._total_steps
        images = _images(outputs, self._parameters)
        self._drawn = self._drawn or bool(images)
        if images:
            return ImageChunk(self._total_steps, self._total_steps, (), images)
        if is_final(response) and not self._drawn:
            raise _no_image()
        step = first_of(outputs, "step")
        if step is None:
            return None
        previews = tuple(image_files.decode("preview", file) for file in outputs.get("preview", ()))
        return ImageChunk(step, self._total_steps, previews, ())


def files_with_seeds(outputs: Mapping[str, list[Any]]) -> list[tuple[bytes, int]]:
    """The image files of a response's outputs, each with its seed; none of one that tells of a step.

    Raises:
        ServerError: an image has no seed.
    """
    files, seeds = outputs.get("image", []), outputs.get("seed", [])
    if len(files) != len(seeds):
        raise ServerError(f"the server answered with {len(files)} images and {len(seeds)} seeds")
    return list(zip(files, seeds, strict=True))


def _images(outputs: Mapping[str, list[Any]], parameters: Mapping[str, Any]) -> tuple[GeneratedImage, ...]:
    return tuple(_image(file, seed, parameters) for file, seed in files_with_seeds(outputs))


def _image(file: bytes, seed: int, parameters: Mapping[str, Any]) -> GeneratedImage:
    picture = image_files.decode("image", file)
    return GeneratedImage(
        image=picture,
        seed=seed,
        data=file,
        format=str(picture.format).lower(),
        parameters={**parameters, "seed": seed},
    )


def _no_image() -> ServerError:
    return ServerError("the server answered without an image")
