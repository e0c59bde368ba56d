"""A synchronous streaming call of gRPC that can be brought to its end, and not only cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from tritonclient.grpc import service_pb2

END_SECONDS = 1.0
"""Longest wait for the end of a call that was cancelled or has failed, which takes milliseconds."""


class Call:
    """An iterator over the messages of a call.

    `cancel` returns before gRPC's own thread has let go of the call. A program that exits in that moment
    kills the thread inside the call's lock, and then waits for the lock for ever (`_Rendezvous.__del__` in
    grpc 1.85). `end` waits for the thread.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._ended = threading.Event()
        if not call.add_callback(self._ended.set):
            self._ended.set()

    def __iter__(self) -> Iterator[service_pb2.ModelStreamInferResponse]:
        return iter(self._call)

    def cancel(self) -> None:
        """Cancel the call if it is under way; do not wait for its end."""
        self._call.cancel()

    def end(self) -> None:
        """Cancel the call if it is under way and wait, for `END_SECONDS` at most, until gRPC is done with it."""
        self._call.cancel()
        self._ended.wait(END_SECONDS)
