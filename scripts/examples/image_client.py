#!/usr/bin/env python
"""Make an image with the Python client, step by step, and write it to a file."""

import os
import sys

from fictures import Client

path = sys.argv[1] if len(sys.argv) > 1 else "image.png"
with Client(f"127.0.0.1:{os.environ.get('TRITON_GRPC_PORT', '8001')}") as client:
    for chunk in client.stream_image("A harbour at dawn", width=256, height=256, num_inference_steps=8):
        if chunk.images:
            chunk.images[0].save(path)
            print(f"{path} (seed {chunk.images[0].seed})")
        else:
            print(f"step {chunk.step} of {chunk.total_steps}")
