"""Answers each request with `max_tokens` responses of one ready-made word, as fast as they are taken."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._word = pb_utils.Tensor("text_output", np.array([b" word"], dtype=np.object_))

    def execute(self, requests: list[Any]) -> None:
        """All of them in turns, a word each, as an engine's steps bring them."""
        streams = [(request.get_response_sender(), _words(request)) for request in requests]
        for number in range(1, max(words for _, words in streams) + 1):
            for sender, words in streams:
                if number <= words:
                    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if number == words else 0
                    sender.send(pb_utils.InferenceResponse([self._word]), flags=flags)


def _words(request: Any) -> int:
    return int(json.loads(request.parameters() or "{}").get("max_tokens", 1))
