"""Image requests over Triton's own HTTP and gRPC APIs, as any of its clients sends them."""

import io
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from PIL import Image

SMALL: dict[str, Any] = {"width": 256, "height": 256, "num_inference_steps": 4}

_TYPES = {
    "prompt": "BYTES",
    "negative_prompt": "BYTES",
    "scheduler": "BYTES",
    "output_format": "BYTES",
    "guidance_scale": "FP32",
    "seed": "INT64",
    "base64": "BOOL",
}
_ARRAYS = {"BYTES": np.object_, "FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}


def tensors(protocol: Any, values: dict[str, Any]) -> list[Any]:
    """Input tensors of shape [1]; a list is sent as it is."""
    made = []
    for name, value in values.items():
        kind = _TYPES.get(name, "INT32")
        elements = value if isinstance(value, list) else [value]
        elements = [element.encode() if isinstance(element, str) else element for element in elements]
        tensor = protocol.InferInput(name, [len(elements)], kind)
        tensor.set_data_from_numpy(np.array(elements, dtype=_ARRAYS[kind]))
        made.append(tensor)
    return made


def infer_grpc(url: str, model: str = "sdxl", **values: Any) -> Any:
    with triton_grpc.InferenceServerClient(url) as client:
        return client.infer(model, tensors(triton_grpc, values), client_timeout=120)


def infer_http(url: str, model: str = "sdxl", **values: Any) -> Any:
    """`url` is host:port."""
    with triton_http.InferenceServerClient(url, network_timeout=120) as client:
        return client.infer(model, tensors(triton_http, values))


def pictures(result: Any) -> list[Image.Image]:
    return [Image.open(io.BytesIO(bytes(file))) for file in result.as_numpy("image")]
