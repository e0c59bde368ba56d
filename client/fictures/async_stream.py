"""A stream of answers, read asynchronously; `stream` is its mirror."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc
from tritonclient.grpc import service_pb2

from fictures.call import END_SECONDS
from fictures.errors import DeadlineExceeded, FicturesError
from fictures.responses import accept, closed, from_rpc, incomplete, is_final
from fictures.retries import PAUSE, Retries

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """An asynchronous iterator over the pieces of one answer, and an asynchronous context manager.

    Leaving it early, in whatever way (`aclose`, end of the `async with` block, an exception, cancellation of
    the task, or the last reference going away), cancels the request on the server. Waiting for the next
    piece takes `timeout` seconds at most. One task at a time may read it.
    """

    def __init__(
        self,
        start: Callable[[], Any],
        parse: Callable[[service_pb2.ModelInferResponse], T | None],
        timeout: float,
        *,
        in_thread: bool = False,
    ) -> None:
        self._start = start
        self._calls = [start()]  # the last one is under way
        self._parse = parse
        self._timeout = timeout
        self._in_thread = in_thread  # for a parse that would hold the event loop up
        self._retries: Retries | None = Retries()  # until the answer has begun
        self._final = False
        self._cancel = weakref.finalize(self, _cancel, self._calls)
        self._cancel.atexit = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next piece.

        Raises:
            DeadlineExceeded: it did not come within the timeout.
            FicturesError: the server or the connection failed.
        """
        try:
            while self._cancel.alive:
                response = await self._next_response()
                if response is None:
                    break
                piece = await asyncio.to_thread(self._parse, response) if self._in_thread else self._parse(response)
                if piece is not None:
                    return piece
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the stream, and cancel the request if its answer is not complete. May be called again."""
        self._cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _next_response(self) -> service_pb2.ModelInferResponse | None:
        while True:
            try:
                response = await self._receive()
            except FicturesError as error:
                if self._retries is None or not self._retries.allow(error):
                    raise
                await asyncio.sleep(PAUSE)
                self._calls[:] = [self._start()]
            else:
                self._retries = None
                return response

    async def _receive(self) -> service_pb2.ModelInferResponse | None:
        try:
            async with asyncio.timeout(self._timeout):
                with package_errors():
                    message = await self._calls[-1].read()
        except TimeoutError:
            raise DeadlineExceeded(f"nothing came from the server for {self._timeout:g} s") from None
        if message is grpc.aio.EOF:
            if not self._final:
                raise incomplete()
            return None
        try:
            response = accept(message)
        except FicturesError:
            await self._read_to_end()
            raise
        self._final = is_final(response)
        return response

    async def _read_to_end(self) -> None:
        """After an error message the server ends the call; cancelled before, Triton 2.51 keeps the request for ever
        and can never unload the model.
        """
        with contextlib.suppress(TimeoutError, FicturesError):
            async with asyncio.timeout(END_SECONDS):
                with package_errors():
                    while await self._calls[-1].read() is not grpc.aio.EOF:
                        pass


@contextlib.contextmanager
def package_errors() -> Iterator[None]:
    """Turn gRPC's exceptions into the package's.

    gRPC ends the calls of a closed channel with `CancelledError`; it stays one only if the waiting task was
    cancelled.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise closed() from None
    except grpc.RpcError as error:
        raise from_rpc(error) from error


def _cancel(calls: list[Any]) -> None:
    # With its event loop closed the call is already over.
    with contextlib.suppress(RuntimeError):
        calls[-1].cancel()
