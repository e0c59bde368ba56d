"""Text requests over Triton's own gRPC streaming API, as any of its clients sends them."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton

GREEDY = {"temperature": 0}


@dataclass(frozen=True)
class Response:
    """One response of a stream, output 0 of each tensor; `None` for what was not asked for."""

    text: str
    finish_reason: str | None
    token_ids: list[int] | None
    is_final: bool


async def responses(
    url: str, prompt: str, *, model: str = "gemma", parameters: dict[str, Any] | None = None, **inputs: bool | str
) -> AsyncIterator[Response]:
    """Yields each response as it arrives.

    Args:
        url: host:port of Triton's gRPC endpoint.
        parameters: the sampling parameters; greedy unless they say otherwise.
        inputs: further tensors by name: `bool` as BOOL[1], `str` as BYTES[1].

    Raises:
        InferenceServerException: with the server's message. (Triton's header `triton_grpc_error` would add the
            gRPC status, but an error under it can crash server 2.51.)
    """
    tensors = inputs | {"text_input": prompt, "sampling_parameters": json.dumps(GREEDY | (parameters or {}))}

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": model,
            "inputs": [_tensor(name, value) for name, value in tensors.items()],
            "enable_empty_final_response": True,
        }

    async with triton.InferenceServerClient(url) as client:
        failure = None
        async for result, error in client.stream_infer(requests()):
            if error is None:
                yield _response(result)
            else:
                failure = error  # raised when the stream has ended: see _read_to_end in fictures.async_stream
        if failure is not None:
            raise failure


async def stream(url: str, prompt: str, **arguments: Any) -> list[Response]:
    """All responses of a streamed request, with token ids and finish reason; arguments as for `responses`."""
    asked = {"stream": True, "return_logprobs": True, "return_finish_reason": True}
    return [response async for response in responses(url, prompt, **(asked | arguments))]


async def generate(url: str, prompt: str, **arguments: Any) -> Response:
    """The whole answer without the prompt, with token ids and finish reason; arguments as for `responses`."""
    asked = {"stream": False, "exclude_input_in_output": True, "return_logprobs": True, "return_finish_reason": True}
    return joined([response async for response in responses(url, prompt, **(asked | arguments))])


def joined(parts: list[Response]) -> Response:
    """What the responses of one request say together."""
    assert [part.is_final for part in parts] == [False] * (len(parts) - 1) + [True], "one final response, the last"
    token_ids = [token for part in parts for token in part.token_ids or ()]
    reasons = [part.finish_reason for part in parts if part.finish_reason not in (None, "None")]
    assert len(reasons) <= 1, "one finish reason"
    return Response("".join(part.text for part in parts), reasons[0] if reasons else None, token_ids, True)


def _tensor(name: str, value: bool | str) -> triton.InferInput:
    is_flag = isinstance(value, bool)
    tensor = triton.InferInput(name, [1], "BOOL" if is_flag else "BYTES")
    tensor.set_data_from_numpy(np.array([value] if is_flag else [value.encode()], dtype=bool if is_flag else object))
    return tensor


def _response(result: triton.InferResult) -> Response:
    def first(name: str) -> str | None:
        array = result.as_numpy(name)
        return None if array is None or array.size == 0 else bytes(array.reshape(-1)[0]).decode("utf-8")

    logprobs = first("logprobs")
    token_ids = None if logprobs is None else [int(next(iter(token))) for token in json.loads(logprobs) or ()]
    parameters = result.get_response().parameters
    is_final = parameters["triton_final_response"].bool_param
    return Response(first("text_output") or "", first("finish_reason"), token_ids, is_final)
