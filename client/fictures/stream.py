"""A stream of answers, read synchronously; `async_stream` is its mirror."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from tritonclient.grpc import service_pb2

from fictures.call import END_SECONDS, Call
from fictures.errors import DeadlineExceeded, FicturesError, ServerError
from fictures.responses import accept, from_rpc, incomplete, is_final
from fictures.retries import PAUSE, Retries

T = TypeVar("T")


class Stream(Generic[T]):
    """An iterator over the pieces of one answer, and a context manager.

    Leaving it early, in whatever way (`close`, end of the `with` block, an exception, Ctrl-C, or the last
    reference going away), cancels the request on the server. Waiting for the next piece takes `timeout`
    seconds at most. One thread at a time may read it.

    gRPC's own iterator cannot be told how long to wait, so a thread reads it into a queue; the thread holds
    no reference to the stream, and ends with the request.
    """

    def __init__(
        self,
        start: Callable[[], Call],
        parse: Callable[[service_pb2.ModelInferResponse], T | None],
        timeout: float,
    ) -> None:
        self._start_call = start
        self._parse = parse
        self._timeout = timeout
        self._retries: Retries | None = Retries()  # until the answer has begun
        self._final = False
        self._calls: list[Call] = []  # the last one is under way
        self._begin()
        self._cancel = weakref.finalize(self, _end, self._calls)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next piece.

        Raises:
            DeadlineExceeded: it did not come within the timeout.
            FicturesError: the server or the connection failed.
        """
        try:
            while self._cancel.alive:
                response = self._next_response()
                if response is None:
                    break
                piece = self._parse(response)
                if piece is not None:
                    return piece
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """End the stream, and cancel the request if its answer is not complete. May be called again."""
        self._cancel()
        self._calls[-1].end()
        self._receiver.join(END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._calls[:] = [self._start_call()]
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._receiver = threading.Thread(
            target=_receive, args=(self._calls[-1], self._received), name="fictures-stream", daemon=True
        )
        self._receiver.start()

    def _next_response(self) -> service_pb2.ModelInferResponse | None:
        while True:
            try:
                response = self._receive()
            except FicturesError as error:
                if self._retries is None or not self._retries.allow(error):
                    raise
                self._receiver.join(END_SECONDS)
                time.sleep(PAUSE)
                self._begin()
            else:
                self._retries = None
                return response

    def _receive(self) -> service_pb2.ModelInferResponse | None:
        try:
            message = self._received.get(timeout=self._timeout)
        except queue.Empty:
            raise DeadlineExceeded(f"nothing came from the server for {self._timeout:g} s") from None
        if isinstance(message, grpc.RpcError):
            raise from_rpc(message) from message
        if isinstance(message, BaseException):
            raise ServerError(f"the stream cannot be read: {message!r}") from message
        if message is None:
            if not self._final:
                raise incomplete()
            return None
        try:
            response = accept(message)
        except FicturesError:
            self._read_to_end()
            raise
        self._final = is_final(response)
        return response

    def _read_to_end(self) -> None:
        """After an error message the server ends the call; cancelled before, Triton 2.51 keeps the request for ever
        and can never unload the model.
        """
        self._receiver.join(END_SECONDS)


def _end(calls: list[Call]) -> None:
    calls[-1].end()


def _receive(call: Call, received: queue.SimpleQueue[Any]) -> None:
    try:
        for message in call:
            received.put(message)
        received.put(None)
    except BaseException as error:  # the reader waits for what is put here, and for nothing else
        received.put(error)
