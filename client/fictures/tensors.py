"""Tensors on the wire: Python values to and from the raw bytes of Triton's gRPC protocol.

Written with `struct` and not through NumPy: a stream's response holds a handful of one-element tensors, and
the gateway decodes thousands of them a second.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from fictures.errors import InvalidRequest, ServerError

_FORMATS = {"BOOL": "?", "INT32": "i", "UINT32": "I", "INT64": "q", "UINT64": "Q", "FP32": "f", "FP64": "d"}
_ALLOWED = {
    "BYTES": "text",
    "BOOL": "true or false",
    "INT32": "a whole number of 32 bits",
    "INT64": "a whole number of 64 bits",
    "FP32": "a number of single precision",
}
"""What an input may hold, in words."""


def add_input(request: service_pb2.ModelInferRequest, name: str, datatype: str, values: Sequence[Any]) -> None:
    """Add the one-dimensional input tensor `name` to a request. BYTES takes `str` and `bytes`.

    Raises:
        InvalidRequest: a value does not fit the type, or a `str` has no UTF-8 form (half of a surrogate pair).
    """
    try:
        raw = _encode(datatype, values)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name}: cannot be written as UTF-8: {error.reason}") from error
    except (struct.error, OverflowError, TypeError) as error:
        shown = ", ".join(map(_shown, values))
        raise InvalidRequest(f"{name}: {shown} is not allowed: {_ALLOWED[datatype]}") from error
    request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
    request.raw_input_contents.append(raw)


def inputs_of(request: service_pb2.ModelInferRequest) -> dict[str, list[Any]]:
    """Decode every input tensor of a request, flattened; BYTES elements come as text."""
    decoded = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        values = _decode(tensor.name, tensor.datatype, raw)
        decoded[tensor.name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return decoded


def outputs_of(response: service_pb2.ModelInferResponse) -> dict[str, list[Any]]:
    """Decode every output tensor of a response, flattened; BYTES elements come as `bytes`.

    Raises:
        ServerError: a tensor's bytes do not fit its type.
    """
    return {
        tensor.name: _decode(tensor.name, tensor.datatype, raw)
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def first_of(outputs: Mapping[str, list[Any]], name: str) -> Any:
    """The first element of a decoded output; None when it is absent or empty."""
    values = outputs.get(name)
    return values[0] if values else None


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not write an integer of thousands of digits
        return "this number"


def _encode(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype != "BYTES":
        return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    elements = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def _decode(name: str, datatype: str, raw: bytes) -> list[Any]:
    try:
        if datatype == "BYTES":
            return _split_elements(raw)
        code = _FORMATS[datatype]
        return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
    except (struct.error, KeyError) as error:
        raise ServerError(f"{name}: cannot read {len(raw)} bytes as {datatype}") from error


def _split_elements(raw: bytes) -> list[bytes]:
    elements, place = [], 0
    while place < len(raw):
        (length,) = struct.unpack_from("<I", raw, place)
        place += 4 + length
        if place > len(raw):
            raise struct.error("an element is longer than its tensor")
        elements.append(raw[place - length : place])
    return elements
