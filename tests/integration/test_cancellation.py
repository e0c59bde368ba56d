"""A client that goes away frees the engine and harms nobody else."""

import asyncio
import queue
import socket
from collections.abc import Callable

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from conftest import Server, wait_for
from fictures import AsyncClient, Client, DeadlineExceeded
from triton_text import stream

LONG = {"max_tokens": 3500, "ignore_eos": True, "temperature": 0.0}


def engine_load(server: Server) -> float:
    """How busy `gemma`'s engine process is, in cores, over the half second that this takes."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    (stub,) = [process for process in processes if any("/gemma/1/model.py" in word for word in process.cmdline())]
    (engine,) = [process for process in stub.children() if "EngineCor" in process.name()]
    return engine.cpu_percent(interval=0.5) / 100


def assert_soon_empty(server: Server) -> None:
    """Several looks, as other work of the machine disturbs one: LONG would keep the engine busy far longer."""
    wait_for(lambda: engine_load(server) < 0.3, 5, "the engine is empty")


def close_sync_iterator(server: Server) -> None:
    with Client(server.grpc_url) as client, client.stream_text("Once", **LONG) as chunks:
        next(chunks)


def close_async_iterator(server: Server) -> None:
    async def read_one() -> None:
        async with AsyncClient(server.grpc_url) as client, client.stream_text("Once", **LONG) as chunks:
            await anext(chunks)

    asyncio.run(read_one())


def time_out_without_streaming(server: Server) -> None:
    with Client(server.grpc_url) as client, pytest.raises(DeadlineExceeded):
        client.generate_text("Once", timeout=1, **LONG)


def drop_generate_stream(server: Server) -> None:
    body = b'{"text_input": "Once", "stream": true, "max_tokens": 3500, "ignore_eos": true}'
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as connection:
        head = f"POST /v2/models/gemma/generate_stream HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert b"data:" in connection.recv(65536) + connection.recv(65536)


@pytest.mark.parametrize(
    "go_away", [close_sync_iterator, close_async_iterator, time_out_without_streaming, drop_generate_stream]
)
def test_going_away_frees_the_engine(server: Server, go_away: Callable[[Server], None]) -> None:
    go_away(server)
    assert_soon_empty(server)


def test_an_engine_that_generates_can_be_told_from_an_empty_one(server: Server) -> None:
    with Client(server.grpc_url) as client, client.stream_text("Once", **LONG) as chunks:
        next(chunks)
        assert engine_load(server) > 0.4


def test_every_second_of_64_streams_killed_leaves_the_others_unharmed(server: Server) -> None:
    async def read(client: AsyncClient, number: int) -> str:
        text = ""
        # Those that are left would generate for long, so that the engine is not empty unless they are cancelled.
        tokens = 3500 if number % 2 else 60
        async with client.stream_text("Once upon a time", max_tokens=tokens, ignore_eos=True, temperature=0) as chunks:
            async for chunk in chunks:
                text += chunk.text
                if number % 2 and len(text) > 60:
                    break  # in the middle: the iterator is closed, and with it the stream
        return text

    async def read_all() -> list[str]:
        async with AsyncClient(server.grpc_url) as client, asyncio.timeout(120):
            return await asyncio.gather(*(read(client, number) for number in range(64)))

    parameters = {"max_tokens": 60, "ignore_eos": True}
    expected = "".join(r.text for r in asyncio.run(stream(server.grpc_url, "Once upon a time", parameters=parameters)))
    texts = asyncio.run(read_all())
    assert set(texts[0::2]) == {expected}
    assert all(expected.startswith(text) for text in texts[1::2])
    assert_soon_empty(server)


def test_a_request_cancelled_through_tritonclient_ends_with_the_status_cancelled(server: Server) -> None:
    answers: queue.Queue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.Queue()
    prompt, stream_flag = triton.InferInput("text_input", [1], "BYTES"), triton.InferInput("stream", [1], "BOOL")
    prompt.set_data_from_numpy(np.array([b"Once"], dtype=object))
    stream_flag.set_data_from_numpy(np.array([True]))

    with triton.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("gemma", [prompt, stream_flag], parameters={"max_tokens": 3500, "ignore_eos": True})
        assert answers.get(timeout=10)[1] is None
        client.stop_stream(cancel_requests=True)

    errors = [error for _, error in answers.queue if error is not None]
    assert [error.status() for error in errors] == ["StatusCode.CANCELLED"]
    assert_soon_empty(server)
