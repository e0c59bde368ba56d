"""What a request of any API asks for, ready to be written as a Triton request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2

from fictures import image_request, text_request
from fictures.types import ChatMessage


@dataclass(frozen=True, slots=True)
class TextCall:
    """A request for text. `messages`, where given, take the place of `prompt`."""

    model: str
    prompt: str = ""
    messages: Sequence[ChatMessage] | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's sampling parameters by their names; None: its default."""
    with_logprobs: bool = False

    @property
    def choices(self) -> int:
        """How many texts are asked for."""
        return int(self.sampling.get("n") or 1)

    def to_triton(self, *, stream: bool, request_id: str = "") -> service_pb2.ModelInferRequest:
        """The request for `gemma`.

        Raises:
            InvalidRequest: a value has no JSON form or no UTF-8 form, or there are no messages.
        """
        sampling = text_request.sampling_json(self.sampling)
        returned = [*text_request.RETURNED, *(["return_logprobs"] if self.with_logprobs else [])]
        request = text_request.generation_request(self.model, self.prompt, sampling, stream=stream, returned=returned)
        if self.messages is not None:
            text_request.add_chat(request, self.messages, self.chat_template_kwargs)
        if stream:
            request.parameters[text_request.OMIT_UNCHANGED].bool_param = True
        request.id = request_id
        return request


@dataclass(frozen=True, slots=True)
class ImageCall:
    """A request for images."""

    model: str
    parameters: Mapping[str, Any]
    """The prompt and the options of `fictures.ImageOptions` that were given."""
    num_images: int = 1
    preview_every: int = 0

    def to_triton(self, *, stream: bool, request_id: str = "") -> service_pb2.ModelInferRequest:
        """The request for `sdxl`, or, streaming, for `sdxl_stream`.

        Raises:
            InvalidRequest: a value does not fit its tensor's type.
        """
        if stream:
            request = image_request.stream_request(
                image_request.streaming_model(self.model),
                self.parameters,
                num_images=self.num_images,
                preview_every=self.preview_every,
            )
        else:
            request = image_request.generation_request(self.model, self.parameters, num_images=self.num_images)
        request.id = request_id
        return request
