"""Answers each request with responses of one ready-made word: `max_tokens` of them, as fast as they are taken, or
`responses` of them, `gap_us` microseconds apart.
"""

import json
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._word = pb_utils.Tensor("text_output", np.array([b" word"], dtype=np.object_))
        self._steps = _Steps()

    def execute(self, requests: list[Any]) -> None:
        """All of them in turns, a word each, as an engine's steps bring them."""
        given = [json.loads(request.parameters() or "{}") for request in requests]
        streams = [
            _Stream(request.get_response_sender(), self._word, int(each.get("responses") or each.get("max_tokens", 1)))
            for request, each in zip(requests, given, strict=True)
        ]
        if gap := int(given[0].get("gap_us", 0)):
            self._steps.join(streams, gap / 1e6)
            return
        while streams:
            streams = [stream for stream in streams if stream.send_word()]

    def finalize(self) -> None:
        self._steps.stop()


class _Stream:
    due = 0.0
    """When the next word is to be sent, by the monotonic clock."""

    def __init__(self, sender: Any, word: Any, words: int) -> None:
        self._sender = sender
        self._word = word
        self._words = words

    def send_word(self) -> bool:
        """Whether it was not the last one."""
        self._words -= 1
        flags = 0 if self._words else pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._sender.send(pb_utils.InferenceResponse([self._word]), flags=flags)
        return self._words > 0


class _Steps:
    """A thread that sends each stream a word whenever its gap is over; streams that began together stay together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._streams: list[_Stream] = []
        self._gap = 0.0  # seconds
        self._is_open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, streams: list[_Stream], gap: float) -> None:
        with self._changed:
            self._gap = gap
            for stream in streams:
                stream.due = time.monotonic() + gap
            self._streams += streams
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._is_open:
            with self._changed:
                first = min((stream.due for stream in self._streams), default=None)
                now = time.monotonic()
                if first is None or first > now:
                    self._changed.wait(None if first is None else first - now)
                    continue
                streams = [stream for stream in self._streams if stream.due <= now]
            ended = [stream for stream in streams if not self._send(stream)]
            with self._changed:
                self._streams = [stream for stream in self._streams if stream not in ended]

    def _send(self, stream: _Stream) -> bool:
        """Whether it goes on."""
        stream.due = max(stream.due, time.monotonic() - self._gap) + self._gap
        try:
            return stream.send_word()
        except Exception as error:  # of this stream: the others go on
            pb_utils.Logger.log_error(f"a word was not sent: {error!r}")
            return False
