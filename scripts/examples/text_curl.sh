#!/usr/bin/env bash
# A text over Triton's HTTP endpoint: whole, then as server-sent events.
set -euo pipefail

url="http://127.0.0.1:${TRITON_HTTP_PORT:-8000}/v2/models/gemma"

curl --fail-with-body --silent --show-error "$url/generate" \
  --json '{"text_input": "Once upon a time", "max_tokens": 32, "temperature": 0.7, "exclude_input_in_output": true}'
echo
curl --fail-with-body --silent --show-error --no-buffer "$url/generate_stream" \
  --json '{"text_input": "Once upon a time", "max_tokens": 32, "temperature": 0.7, "stream": true}'
