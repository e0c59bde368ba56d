"""From Triton's tensors and parameters to one frozen `ImageRequest`, checked once."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from image_engine.errors import InvalidArgument
from image_engine.origin import readable_id, trace_headers
from image_engine.parameters import MOST_CHARACTERS, PARAMETERS, Parameter, default_of

HEALTH_CHECK = "health_check"
"""Request parameter: answered at once, without drawing, by a model that can take requests."""
RELAYED = "relayed"
"""Request parameter of `sdxl`: a response at once instead of one a step, and an error as `STATUS: message` in `image`,
with no seed. `ResponseStream` says why."""
CANCEL_KEY = "cancel_key"
"""Request parameter: a name by which a later request with `CANCEL` can cancel this one."""
CANCEL = "cancel"
"""Request parameter: cancels the request with this `CANCEL_KEY`, for a caller whose Triton cannot (BLS in 2.51)."""
TRACEPARENT = "traceparent"
"""Request parameter: the trace that this request is part of, in W3C's words, where Triton does not know of it (BLS)."""

# Request parameters that Triton's own front ends set or read.
_TRITON_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")
_KNOWN = frozenset([*_TRITON_PARAMETERS, HEALTH_CHECK, RELAYED, CANCEL_KEY, CANCEL, TRACEPARENT])
_SEEDS = 2**63
_RANDOM_SEEDS = 2**32  # short enough to be typed


@dataclass(frozen=True)
class ImageRequest:
    """One request for `len(seeds)` images of one size."""

    prompt: str
    negative_prompt: str | None
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seeds: tuple[int, ...]
    scheduler: str
    output_format: str
    base64: bool
    preview_every: int
    relayed: bool
    cancel_key: str | None
    request_id: str
    trace_headers: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def image_count(self) -> int:
        return len(self.seeds)

    @classmethod
    def parse(cls, request: Any, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> "ImageRequest":
        """Reads a `pb_utils.InferenceRequest`.

        Args:
            request: The request.
            parameters: Its request parameters.
            defaults: The model's own defaults, which win over those of `PARAMETERS`.

        Raises:
            InvalidArgument: Naming the tensor or parameter, the value and what is allowed.
        """
        values = {parameter.name: _value(request, parameter, defaults) for parameter in PARAMETERS}
        seed = values.pop("seed")
        if seed is None:
            seed = secrets.randbelow(_RANDOM_SEEDS)
        seeds = tuple((seed + number) % _SEEDS for number in range(values.pop("num_images")))
        return cls(
            **values,
            seeds=seeds,
            relayed=flag(parameters, RELAYED),
            cancel_key=parameters.get(CANCEL_KEY),
            request_id=readable_id(request),
            trace_headers=_trace_headers(request, parameters),
        )


def flag(parameters: Mapping[str, Any], name: str) -> bool:
    """A request parameter that is true or false, also as text, and false if it is not there."""
    value = parameters.get(name, False)
    if value in (True, "true", "True", "1"):
        return True
    if value in (False, "false", "False", "0"):
        return False
    raise InvalidArgument.of(name, value, "true or false")


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuses request parameters that nothing here reads; a misspelt tensor in a JSON body is one."""
    relayed = flag(parameters, RELAYED)
    for name in parameters:
        if name not in _KNOWN:
            known = ", ".join(p.name for p in PARAMETERS if p.name != "preview_every" or not relayed)
            raise InvalidArgument(f"{name}: no such parameter; there are {known}")


def read_parameters(request: Any) -> dict[str, Any]:
    """The request parameters of a `pb_utils.InferenceRequest`."""
    return json.loads(request.parameters() or "{}")


def _trace_headers(request: Any, parameters: Mapping[str, Any]) -> dict[str, str]:
    if parent := parameters.get(TRACEPARENT):
        return {"traceparent": str(parent)}
    return trace_headers(request)


def _value(request: Any, parameter: Parameter, defaults: Mapping[str, Any]) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, parameter.name)
    if tensor is None and parameter.required:  # Triton 2.51 lets a request without it pass if it has another input
        raise InvalidArgument(f"{parameter.name}: must be given: {parameter.allowed}")
    if tensor is None:
        return default_of(parameter.name, defaults)
    array = tensor.as_numpy().reshape(-1)
    if array.size != 1:
        raise InvalidArgument.of(parameter.name, f"{array.size} elements", "one element, shape [1]")
    value = _python_value(parameter, array[0])
    parameter.check(value)
    return value


def _python_value(parameter: Parameter, element: Any) -> Any:
    if parameter.data_type == "TYPE_STRING":
        data = bytes(element)
        if len(data) > 4 * MOST_CHARACTERS:  # longer than any allowed text in UTF-8
            raise InvalidArgument(f"{parameter.name}: {len(data)} bytes are not allowed: {parameter.allowed}")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArgument.of(parameter.name, data, f"UTF-8 text ({error.reason})") from None
    if parameter.data_type == "TYPE_FP32":
        return float(str(np.float32(element)))  # the decimal number that was meant: 7.3, not 7.300000190734863
    return bool(element) if parameter.data_type == "TYPE_BOOL" else int(element)
