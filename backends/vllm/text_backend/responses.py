"""From vLLM's outputs to Triton's responses: one writer a stream and exactly one final response.

A stream is written by one thread at a time: the one that read the request until it is given to the engine, the
engine's event loop from then on.

Only outputs that the request asks for are sent: Triton's Python backend frees others without Python's lock, which ends
this process with Python 3.12 and can spoil its memory with others.
"""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from vllm.outputs import CompletionOutput, RequestOutput

from text_backend.errors import TextError
from text_backend.request import TextRequest

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class ResponseStream:
    """The answers to one request. After the final one, sending is an error and failing is ignored.

    Triton cannot unload a model as long as a sender exists, so it is let go with the final response.

    Args:
        sender: Triton's.
        wanted: The outputs that the request asks for.
    """

    def __init__(self, sender: Any, wanted: Collection[str]) -> None:
        self._sender = sender
        self._wanted = wanted

    @property
    def finished(self) -> bool:
        return self._sender is None

    def send(self, tensors: list[Any], *, final: bool) -> None:
        if self.finished:
            raise RuntimeError("the stream has had its final response")
        self._sender.send(pb_utils.InferenceResponse(tensors), flags=_FINAL if final else 0)
        if final:
            self._sender = None

    def send_empty(self) -> None:
        self.send([_strings("text_output", [""])] if "text_output" in self._wanted else [], final=True)

    def fail(self, error: TextError) -> None:
        """Ends the stream with an error, unless it has ended. Never raises: there is nobody left to tell."""
        if self.finished:
            return
        sender, self._sender = self._sender, None
        triton_error = pb_utils.TritonError(str(error), getattr(pb_utils.TritonError, error.code))
        try:
            sender.send(pb_utils.InferenceResponse(error=triton_error), flags=_FINAL)
        except Exception as failure:
            pb_utils.Logger.log_error(f"[text] a stream could not be ended with {error!r}: {failure!r}")

    def is_cancelled(self) -> bool:
        return not self.finished and self._sender.is_cancelled()


class ResponseBuilder:
    """Builds the tensors of one request's responses.

    With `n` outputs every tensor but `num_input_tokens` has `n` elements, element i for output i. In a stream
    they hold what is new since the response before: an output with nothing new has an empty text.
    """

    def __init__(self, request: TextRequest) -> None:
        self._n = request.sampling.n
        self._wanted = request.outputs
        self._prefix = request.prompt if request.prepend_prompt else ""
        self._finish_reasons = ["None"] * self._n
        self._omits_unchanged = request.omits_unchanged
        self._is_first = True

    def build(self, output: RequestOutput) -> list[Any]:
        by_index: list[CompletionOutput | None] = [None] * self._n
        for completion in output.outputs:
            by_index[completion.index] = completion
            if completion.finish_reason is not None:
                self._finish_reasons[completion.index] = completion.finish_reason
        wanted = self._with_news(output) if self._omits_unchanged else self._wanted
        tensors = []
        if "text_output" in wanted:
            tensors.append(_strings("text_output", [self._prefix + c.text if c else "" for c in by_index]))
        if len(wanted) > len(tensors):
            tensors += self._additional(wanted, output, by_index)
        return tensors

    def _with_news(self, output: RequestOutput) -> Collection[str]:
        has_ended = any(completion.finish_reason is not None for completion in output.outputs)
        unchanged = set() if has_ended else {"finish_reason"}
        if not self._is_first:
            unchanged.add("num_input_tokens")
        self._is_first = False
        return self._wanted - unchanged

    def _additional(
        self, wanted: Collection[str], output: RequestOutput, by_index: list[CompletionOutput | None]
    ) -> list[Any]:
        tensors = []
        if "finish_reason" in wanted:
            tensors.append(_strings("finish_reason", self._finish_reasons))
        if "cumulative_logprob" in wanted:
            values = [np.nan if c is None or c.cumulative_logprob is None else c.cumulative_logprob for c in by_index]
            tensors.append(pb_utils.Tensor("cumulative_logprob", np.array(values, dtype=np.float32)))
        if "logprobs" in wanted:
            tensors.append(_strings("logprobs", [_logprobs_json(c) for c in by_index]))
        if "num_input_tokens" in wanted:
            count = len(output.prompt_token_ids or ())
            tensors.append(pb_utils.Tensor("num_input_tokens", np.array([count], dtype=np.uint32)))
        if "num_output_tokens" in wanted:
            counts = [len(c.token_ids) if c else 0 for c in by_index]
            tensors.append(pb_utils.Tensor("num_output_tokens", np.array(counts, dtype=np.uint32)))
        return tensors


def _strings(name: str, values: list[str]) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode("utf-8", "replace") for value in values], dtype=np.object_))


def _logprobs_json(completion: CompletionOutput | None) -> str:
    """One object a token: `{token_id: {logprob, rank, decoded_token}}`, as NVIDIA's backend writes them."""
    if completion is None or completion.logprobs is None:
        return "[]" if completion is None else "null"
    return json.dumps(
        [
            {
                token_id: {"logprob": item.logprob, "rank": item.rank, "decoded_token": item.decoded_token}
                for token_id, item in candidates.items()
            }
            for candidates in completion.logprobs
        ]
    )
