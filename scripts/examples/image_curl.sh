#!/usr/bin/env bash
# An image over Triton's HTTP endpoint: at once, then with an event for each denoising step.
set -euo pipefail

url="http://127.0.0.1:${TRITON_HTTP_PORT:-8000}/v2/models"
path="${1:-image.png}"
# JSON cannot carry a file's bytes, base64 text it can.
request='{"prompt": "A harbour at dawn", "width": 256, "height": 256, "num_inference_steps": 8, "base64": true}'

answer=$(curl --fail-with-body --silent --show-error "$url/sdxl/generate" --json "$request") || { echo "$answer"; exit 1; }
grep -o '"image":"[^"]*"' <<< "$answer" | cut -d '"' -f 4 | base64 --decode > "$path"
echo "$path"

curl --fail-with-body --silent --show-error --no-buffer "$url/sdxl_stream/generate_stream" --json "$request" |
  sed --unbuffered 's/"image":"[^"]*"/"image":"…"/'
