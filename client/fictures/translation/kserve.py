"""A Triton request as JSON, as `curl` sends it to Triton's HTTP endpoint.

Models that answer once take the inference protocol (KServe v2, `infer`); decoupled ones, that may answer many times,
take Triton's generate extension, where each input tensor and request parameter is a key of one flat object.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tritonclient.grpc import service_pb2

from fictures.tensors import add_input, inputs_of
from fictures.translation.calls import ImageCall, TextCall


def path_and_body(call: TextCall | ImageCall, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """The path of Triton's HTTP endpoint for a call, and the body to post there.

    Raises:
        InvalidRequest: a value does not fit its tensor.
    """
    request = call.to_triton(stream=stream)
    # JSON cannot carry the bytes of an image file.
    if isinstance(call, ImageCall):
        add_input(request, "base64", "BOOL", [True])
    model = f"/v2/models/{quote(request.model_name, safe='')}"
    if isinstance(call, ImageCall) and not stream:
        return f"{model}/infer", infer_body(request)
    return f"{model}/{'generate_stream' if stream else 'generate'}", generate_body(request)


def infer_body(request: service_pb2.ModelInferRequest) -> dict[str, Any]:
    """The body for `infer`: a list of tensors with name, type, shape and data."""
    values = inputs_of(request)
    inputs = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": values[tensor.name]}
        for tensor in request.inputs
    ]
    return {**({"id": request.id} if request.id else {}), "inputs": inputs}


def generate_body(request: service_pb2.ModelInferRequest) -> dict[str, Any]:
    """The body for `generate` and `generate_stream`: every tensor a key, and one element a value of its own."""
    values = inputs_of(request)
    body = {name: elements[0] if len(elements) == 1 else elements for name, elements in values.items()}
    return {**({"id": request.id} if request.id else {}), **body}


def as_text(body: dict[str, Any]) -> str:
    """A body as one line of JSON."""
    return json.dumps(body, ensure_ascii=False)
