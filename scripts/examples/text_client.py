#!/usr/bin/env python
"""Stream a text with the Python client."""

import os

from fictures import Client

with Client(f"127.0.0.1:{os.environ.get('TRITON_GRPC_PORT', '8001')}") as client:
    for chunk in client.stream_text("Once upon a time", max_tokens=32, temperature=0.7):
        print(chunk.text, end="", flush=True)
    print()
    answer = client.chat([{"role": "user", "content": "Who are you?"}], max_tokens=32)
    print(answer.text, f"({answer.num_output_tokens} tokens, {answer.finish_reason})")
