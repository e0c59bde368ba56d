"""Text requests: arguments to the tensors of model `gemma`, and its responses back to values.

The tensors are those of NVIDIA's vLLM backend, with `messages` and `chat_template_kwargs` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from fictures.errors import InvalidRequest, ServerError
from fictures.tensors import add_input, first_of, outputs_of
from fictures.types import ChatMessage, Sampling, TextChunk, TextResult

DEFAULT_MAX_TOKENS = 256
RETURNED = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
OMIT_UNCHANGED = "omit_unchanged_outputs"
"""A request parameter for streams: outputs that say nothing new are left out, see docs/text-model.md."""


def sampling_parameters(sampling: Sampling, lora: str | None) -> str:
    """Write the sampling parameters as vLLM's JSON. A value of None is left to vLLM's default.

    Raises:
        InvalidRequest: a value has no JSON form, or more than one completion is asked for.
    """
    values: dict[str, Any] = {"max_tokens": DEFAULT_MAX_TOKENS, **sampling, "lora_name": lora}
    if values.get("n", 1) != 1:
        raise InvalidRequest(f"n={values['n']}: must be 1; send one request for each completion")
    return sampling_json(values)


def sampling_json(sampling: Mapping[str, Any]) -> str:
    """Write sampling parameters as the backend reads them. A value of None is left to vLLM's default.

    Raises:
        InvalidRequest: a value has no JSON form.
    """
    values = dict(sampling)
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    if isinstance(values.get("structured_outputs"), Mapping):
        values["structured_outputs"] = _to_json("structured_outputs", values["structured_outputs"])
    return _to_json("sampling parameters", {name: value for name, value in values.items() if value is not None})


def generation_request(
    model: str, prompt: str, sampling: str, *, stream: bool, returned: Sequence[str] = RETURNED
) -> service_pb2.ModelInferRequest:
    """Ask `model` to continue `prompt`.

    Args:
        model: the text model.
        prompt: the text as the model sees it; empty where `add_chat` gives it messages.
        sampling: JSON from `sampling_json` or `sampling_parameters`.
        stream: one response for each piece of text, or one for all.
        returned: the flags of the outputs that are wanted beside the text.
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    # Without this Triton keeps an empty final response to itself, and the stream's end goes unsaid.
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    add_input(request, "text_input", "BYTES", [prompt])
    add_input(request, "stream", "BOOL", [stream])
    add_input(request, "exclude_input_in_output", "BOOL", [True])
    add_input(request, "sampling_parameters", "BYTES", [sampling])
    for name in returned:
        add_input(request, name, "BOOL", [True])
    return request


def chat_request(
    model: str,
    messages: Sequence[ChatMessage],
    chat_template_kwargs: Mapping[str, Any] | None,
    sampling: str,
    *,
    stream: bool,
) -> service_pb2.ModelInferRequest:
    """Ask `model` to answer a chat, which the server renders with the model's own chat template.

    Raises:
        InvalidRequest: there are no messages, or they have no JSON form.
    """
    request = generation_request(model, "", sampling, stream=stream)
    add_chat(request, messages, chat_template_kwargs)
    return request


def add_chat(
    request: service_pb2.ModelInferRequest,
    messages: Sequence[ChatMessage],
    chat_template_kwargs: Mapping[str, Any] | None,
) -> None:
    """Give a generation request a chat in place of a prompt.

    Raises:
        InvalidRequest: there are no messages, or they have no JSON form.
    """
    if not messages:
        raise InvalidRequest("messages: must hold at least one message")
    add_input(request, "messages", "BYTES", [_to_json("messages", list(messages))])
    if chat_template_kwargs:
        add_input(
            request, "chat_template_kwargs", "BYTES", [_to_json("chat_template_kwargs", dict(chat_template_kwargs))]
        )


def probe_request(model: str) -> service_pb2.ModelInferRequest:
    """Ask `model` whether its engine can take a request: an empty answer at once, or UNAVAILABLE.

    A backend that does not know `health_check` generates one token.
    """
    request = generation_request(model, "", '{"max_tokens": 1}', stream=False)
    request.parameters["health_check"].bool_param = True
    return request


def parse_chunk(response: service_pb2.ModelInferResponse) -> TextChunk | None:
    """Read one streamed response; None when it carries no text, as an empty final response does."""
    outputs = outputs_of(response)
    if not outputs.get("text_output"):
        return None
    reason = first_of(outputs, "finish_reason")
    return TextChunk(
        # A character split over two responses must not end the stream.
        text=outputs["text_output"][0].decode(errors="replace"),
        finish_reason=None if reason in (None, b"None", b"") else reason.decode(),
        num_input_tokens=first_of(outputs, "num_input_tokens"),
        num_output_tokens=first_of(outputs, "num_output_tokens") or 0,
    )


def parse_result(responses: Sequence[service_pb2.ModelInferResponse], model: str) -> TextResult:
    """Read all responses of a request that did not stream, or join those of one that did.

    Raises:
        ServerError: there is no text among them.
    """
    chunks = [chunk for chunk in map(parse_chunk, responses) if chunk is not None]
    if not chunks:
        raise ServerError("the server answered without text")
    return TextResult(
        text="".join(chunk.text for chunk in chunks),
        finish_reason=chunks[-1].finish_reason,
        num_input_tokens=chunks[-1].num_input_tokens,
        num_output_tokens=sum(chunk.num_output_tokens for chunk in chunks),
        model=model,
    )


def _to_json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{name}: cannot be written as JSON: {error}") from error
