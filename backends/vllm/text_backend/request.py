"""From Triton's tensors and parameters to one frozen `TextRequest`, checked once."""

import base64
import io
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from vllm.sampling_params import SamplingParams

from text_backend.contract import ADDITIONAL_OUTPUTS, HEALTH_CHECK_PARAMETER, OMIT_UNCHANGED_PARAMETER
from text_backend.errors import InvalidArgument
from text_backend.origin import readable_id, trace_headers
from text_backend.sampling import SamplingRequest

# Request parameters that Triton's own front ends set or read; they are not sampling parameters.
_TRITON_PARAMETERS = frozenset(
    ["sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"]
)


@dataclass(frozen=True)
class Limits:
    """What the loaded model can take."""

    vocabulary_size: int
    max_images: int
    lora_paths: dict[str, str]


@dataclass(frozen=True)
class TextRequest:
    """One request for text, ready for vLLM. Exactly one of `prompt` and `messages` is used."""

    prompt: str
    messages: list[dict[str, Any]] | None
    chat_template_kwargs: dict[str, Any]
    images: list[Image.Image] = field(repr=False)
    stream: bool
    prepend_prompt: bool
    sampling: SamplingParams
    lora_name: str | None
    longest_hold: float | None
    """Seconds that text may wait for more before it is sent; None: what the model says."""
    outputs: frozenset[str]
    """The tensors of a response."""
    omits_unchanged: bool
    """Whether a response leaves out what would say nothing new."""
    request_id: str
    trace_headers: dict[str, str]

    @classmethod
    def parse(cls, request: Any, parameters: dict[str, Any], limits: Limits) -> "TextRequest":
        """Reads a `pb_utils.InferenceRequest`.

        Args:
            request: the request; its `sampling_parameters` tensor overrides `parameters`.
            parameters: its request parameters.
            limits: what the model can take.

        Raises:
            InvalidArgument: naming the tensor or parameter, the value and what is allowed.
        """
        prompt = _text(request, "text_input") or ""
        messages = _messages(request)
        stream = _flag(request, "stream") or False
        exclude_prompt = _flag(request, "exclude_input_in_output")
        if stream and exclude_prompt is False:
            raise InvalidArgument.of("exclude_input_in_output", False, "must be true, or absent, when streaming")
        if messages is not None and prompt:
            raise InvalidArgument.of("text_input", prompt, "must be empty when messages is given")
        if messages is None and not prompt:
            raise InvalidArgument.of("text_input", prompt, "a prompt of one character or more, or messages")
        images = _images(request, limits.max_images)
        if messages is not None and images:
            raise InvalidArgument.of("image", f"{len(images)} images", "only with text_input; messages hold their own")
        given = {"text_output", *(output for flag, output in ADDITIONAL_OUTPUTS.items() if _flag(request, flag))}
        outputs = frozenset(given.intersection(request.requested_output_names()))
        sampling = SamplingRequest.parse(_sampling_parameters(request, parameters), limits.lora_paths)
        if sampling.logprobs is None and outputs & {"logprobs", "cumulative_logprob"}:
            sampling = sampling.model_copy(update={"logprobs": 0})  # the chosen tokens' own
        return cls(
            prompt=prompt,
            messages=messages,
            chat_template_kwargs=_chat_template_kwargs(request, messages),
            images=images,
            stream=stream,
            prepend_prompt=not stream and messages is None and not exclude_prompt,
            sampling=sampling.to_vllm(stream=stream, vocabulary_size=limits.vocabulary_size),
            lora_name=sampling.lora_name,
            longest_hold=sampling.longest_hold,
            outputs=outputs,
            omits_unchanged=is_set(parameters, OMIT_UNCHANGED_PARAMETER) and stream,
            request_id=readable_id(request),
            trace_headers=trace_headers(request),
        )


def is_set(parameters: dict[str, Any], name: str) -> bool:
    """Whether a request parameter of ours, `health_check` or `omit_unchanged_outputs`, is true; without it it is not.

    Raises:
        InvalidArgument: It is neither true nor false.
    """
    value = parameters.get(name, False)
    if value in (True, "true", "True", "1"):
        return True
    if value in (False, "false", "False", "0"):
        return False
    raise InvalidArgument.of(name, value, "true or false")


def _array(request: Any, name: str) -> np.ndarray | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


def _single(request: Any, name: str) -> Any:
    array = _array(request, name)
    if array is None:
        return None
    if array.size != 1:
        raise InvalidArgument.of(name, array.tolist(), f"one element, shape [1], not {array.size}")
    return array[0]


def _text(request: Any, name: str) -> str | None:
    value = _single(request, name)
    if value is None:
        return None
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument.of(name, bytes(value), f"UTF-8 text ({error.reason})") from None


def _flag(request: Any, name: str) -> bool | None:
    value = _single(request, name)
    return None if value is None else bool(value)


def _json(request: Any, name: str) -> Any:
    text = _text(request, name)
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.of(name, text, f"JSON ({error})") from None


def _sampling_parameters(request: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    from_tensor = _json(request, "sampling_parameters")
    if from_tensor is None:
        from_tensor = {}
    if not isinstance(from_tensor, dict):
        raise InvalidArgument.of("sampling_parameters", from_tensor, "a JSON object")
    ignored = _TRITON_PARAMETERS | {HEALTH_CHECK_PARAMETER, OMIT_UNCHANGED_PARAMETER}
    return {name: value for name, value in parameters.items() if name not in ignored} | from_tensor


class _Url(BaseModel):
    url: str = Field(pattern="^data:")  # the server fetches nothing on a client's behalf


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: _Url | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1)
    content: str | list[_Part] | None


_MESSAGES = TypeAdapter(list[_Message])


def _messages(request: Any) -> list[dict[str, Any]] | None:
    messages = _json(request, "messages")
    if messages is None:
        return None
    try:
        _MESSAGES.validate_python(messages, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["messages", *(str(part) for part in first["loc"])])
        raise InvalidArgument.of(where, first["input"], first["msg"]) from None
    if not messages:
        raise InvalidArgument.of("messages", messages, "a list of one or more {role, content}")
    return messages


def _chat_template_kwargs(request: Any, messages: list[dict[str, Any]] | None) -> dict[str, Any]:
    kwargs = _json(request, "chat_template_kwargs")
    if kwargs is None:
        return {}
    if not isinstance(kwargs, dict):
        raise InvalidArgument.of("chat_template_kwargs", kwargs, "a JSON object")
    if messages is None:
        raise InvalidArgument.of("chat_template_kwargs", kwargs, "only together with messages")
    for reserved in ("chat_template", "tokenize", "return_dict", "tokenizer", "conversation"):
        if reserved in kwargs:
            raise InvalidArgument.of(f"chat_template_kwargs.{reserved}", kwargs[reserved], "set by the server")
    return kwargs


def _images(request: Any, max_images: int) -> list[Image.Image]:
    encoded = _array(request, "image")
    if encoded is None or encoded.size == 0:
        return []
    if encoded.size > max_images:
        allowed = f"at most {max_images} images" if max_images else "this model reads text only"
        raise InvalidArgument.of("image", f"{encoded.size} images", allowed)
    images = []
    for index, item in enumerate(encoded):
        try:
            image = Image.open(io.BytesIO(base64.b64decode(bytes(item), validate=True)))
            images.append(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise InvalidArgument.of(f"image[{index}]", bytes(item), f"a base64 image file ({error})") from None
    return images
