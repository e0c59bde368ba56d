#!/usr/bin/env python
"""Stream a text with NVIDIA's own tritonclient, nothing of Fictures."""

import json
import os
import queue

import numpy as np
import tritonclient.grpc as triton


def tensor(name: str, datatype: str, value: object) -> triton.InferInput:
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=bool if datatype == "BOOL" else np.object_))
    return made


responses: queue.Queue = queue.Queue()
inputs = [
    tensor("text_input", "BYTES", "Once upon a time"),
    tensor("stream", "BOOL", True),
    tensor("sampling_parameters", "BYTES", json.dumps({"max_tokens": 32, "temperature": 0.7})),
]
with triton.InferenceServerClient(f"127.0.0.1:{os.environ.get('TRITON_GRPC_PORT', '8001')}") as client:
    client.start_stream(lambda result, error: responses.put((result, error)))
    client.async_stream_infer("gemma", inputs, enable_empty_final_response=True)
    final = False
    while not final:
        result, error = responses.get(timeout=60)
        if error:
            raise SystemExit(str(error))
        final = result.get_response().parameters["triton_final_response"].bool_param
        if (text := result.as_numpy("text_output")) is not None:
            print(text[0].decode(), end="", flush=True)
print()
