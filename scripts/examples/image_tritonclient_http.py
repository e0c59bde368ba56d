#!/usr/bin/env python
"""Make an image with NVIDIA's own tritonclient over HTTP, nothing of Fictures, and write it to a file."""

import os
import sys

import numpy as np
import tritonclient.http as triton


def tensor(name: str, datatype: str, value: object) -> triton.InferInput:
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=np.object_ if datatype == "BYTES" else np.int32))
    return made


inputs = [
    tensor("prompt", "BYTES", "A harbour at dawn"),
    tensor("width", "INT32", 256),
    tensor("height", "INT32", 256),
    tensor("num_inference_steps", "INT32", 8),
]
path = sys.argv[1] if len(sys.argv) > 1 else "image.png"
with triton.InferenceServerClient(f"127.0.0.1:{os.environ.get('TRITON_HTTP_PORT', '8000')}") as client:
    result = client.infer("sdxl", inputs)
with open(path, "wb") as file:
    file.write(result.as_numpy("image")[0])
print(f"{path} (seed {result.as_numpy('seed')[0]})")
