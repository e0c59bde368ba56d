"""Whatever dies, every stream ends, the service comes back by itself and nothing is left behind."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from conftest import (
    START_TIMEOUT,
    Server,
    loaded_model,
    mapped_segments,
    running_server,
    stub_of,
    tritonserver,
    wait_for,
)
from fictures import AsyncClient, DeadlineExceeded, FicturesError, Unavailable
from test_image_cancellation import steps

pytestmark = pytest.mark.timeout(600)

STREAMS = 16
LONG = {"max_tokens": 3000, "ignore_eos": True, "temperature": 0.0}


SEGMENTS: set[str] = set()
"""The shared memory of every engine that a test killed."""


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("faults"), SERVE="text,gateway") as running:
        yield running
        processes = psutil.Process(running.process.pid).children(recursive=True)
    assert not any(map(is_alive, processes)), "every process is gone after the stop"
    assert SEGMENTS, "engines use shared memory"
    assert not SEGMENTS & set(os.listdir("/dev/shm")), "none is left after the stop"


def stub(server: Server) -> psutil.Process:
    return stub_of(server, "gemma")


def engine_core(server: Server, model: str = "gemma") -> psutil.Process:
    (found,) = [child for child in stub_of(server, model).children() if "EngineCor" in child.name()]
    return found


def worker(server: Server, model: str) -> psutil.Process:
    (found,) = [child for child in engine_core(server, model).children() if "Worker" in child.name()]
    return found


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def streams_while(server: Server, disturb: psutil.Process, model: str = "gemma") -> list[FicturesError | None]:
    """How each of the streams ended when `disturb` is killed after all of them have had text."""
    started = asyncio.Semaphore(0)

    async def read(client: AsyncClient) -> FicturesError | None:
        first = True
        try:
            async with client.stream_text("Once upon a time", model=model, **LONG) as chunks:
                async for _ in chunks:
                    if first:
                        started.release()
                        first = False
        except FicturesError as error:
            return error
        return None

    async with AsyncClient(server.grpc_url, timeout=30) as client, asyncio.timeout(60):
        tasks = [asyncio.create_task(read(client)) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            await started.acquire()
        disturb.send_signal(signal.SIGKILL)
        return await asyncio.gather(*tasks)


@pytest.mark.parametrize("victim", [engine_core, stub, tritonserver])
def test_kill_ends_every_stream_and_the_service_comes_back(own_server: Server, victim) -> None:
    wait_for(own_server.is_serving, START_TIMEOUT, "serving before the test")
    old_engine = engine_core(own_server)
    SEGMENTS.update(mapped_segments([stub(own_server), old_engine]))
    process = victim(own_server)

    endings = asyncio.run(streams_while(own_server, process))

    # A killed engine is reported by the backend; with the stub or the server the connection goes.
    expected = Unavailable if victim is engine_core else FicturesError
    assert all(isinstance(ending, expected) for ending in endings), endings
    assert not any(isinstance(ending, DeadlineExceeded) for ending in endings), "no stream hangs"
    if victim is engine_core:
        assert_whoever_asks_is_told(own_server)
    wait_for(own_server.is_serving, START_TIMEOUT, f"serving after {victim.__name__} was killed")
    assert engine_core(own_server) != old_engine, "the engine is a new one"
    wait_for(lambda: not is_alive(old_engine), 30, "the old engine's process is gone")


def assert_whoever_asks_is_told(server: Server) -> None:
    """That the engine is dead, before another has started."""
    assert not server.is_serving()
    refused = httpx.post(f"{server.http_url}/v2/models/gemma/generate", json={"text_input": "a"}, timeout=30)
    assert refused.status_code != 200
    assert "restarting" in refused.json()["error"]


def test_a_worker_in_a_process_of_its_own_is_replaced_with_its_engine(own_server: Server) -> None:
    name = "gemma_workers"

    def is_serving() -> bool:
        return own_server.takes_requests(name, "text_input")

    wait_for(own_server.is_serving, START_TIMEOUT, "serving before the test")
    with loaded_model(own_server, name, {"distributed_executor_backend": "mp", "enforce_eager": True}):
        old_engine = [engine_core(own_server, name), worker(own_server, name)]
        SEGMENTS.update(mapped_segments(old_engine))
        endings = asyncio.run(streams_while(own_server, old_engine[1], name))
        assert all(isinstance(ending, Unavailable) for ending in endings), endings
        wait_for(is_serving, START_TIMEOUT, "serving after the worker was killed")
        assert {engine_core(own_server, name), worker(own_server, name)}.isdisjoint(old_engine)
        wait_for(lambda: not any(map(is_alive, old_engine)), 30, "the old engine's processes are gone")
        assert own_server.is_serving(), "the other model was not disturbed"


def test_a_server_that_hangs_is_restarted(own_server: Server) -> None:
    wait_for(own_server.is_serving, START_TIMEOUT, "serving before the test")
    hung = tritonserver(own_server)
    hung.send_signal(signal.SIGSTOP)
    wait_for(lambda: not is_alive(hung), 120, "the hung server is gone")
    wait_for(own_server.is_serving, START_TIMEOUT, "serving again")


def test_a_killed_gateway_is_started_again_and_triton_is_not_disturbed(own_server: Server) -> None:
    wait_for(own_server.is_serving, START_TIMEOUT, "serving before the test")
    triton = tritonserver(own_server)
    gateway = psutil.Process(own_server.state["gateway"]["pid"])
    gateway.kill()
    wait_for(lambda: not is_alive(gateway), 30, "it is gone")
    wait_for(own_server.gateway_is_live, START_TIMEOUT, "another answers")
    assert tritonserver(own_server) == triton


def test_the_image_engine_killed_in_mid_batch_ends_every_request_and_comes_back(tmp_path: Path) -> None:
    with running_server(tmp_path, SERVE="images") as server:
        engine = stub_of(server, "sdxl_stream")
        endings = asyncio.run(images_while(server, engine))
        assert all(isinstance(ending, FicturesError) for ending in endings), endings
        assert not any(isinstance(ending, DeadlineExceeded) for ending in endings), "none hangs"
        wait_for(server.is_serving, START_TIMEOUT, "serving after the image engine was killed")
        assert stub_of(server, "sdxl_stream") != engine


async def images_while(server: Server, disturb: psutil.Process) -> list[FicturesError | None]:
    """How streams of images, and single requests beside them, ended when `disturb` is killed in their midst."""
    options = {"width": 256, "height": 256, "num_inference_steps": 100}

    async def stream(client: AsyncClient) -> FicturesError | None:
        try:
            async for _ in client.stream_image("a", **options):
                pass
        except FicturesError as error:
            return error
        return None

    async def single(client: AsyncClient) -> FicturesError | None:
        try:
            await client.generate_image("a", **options)
        except FicturesError as error:
            return error
        return None

    async with AsyncClient(server.grpc_url, timeout=30) as client, asyncio.timeout(60):
        tasks = [asyncio.create_task(ask(client)) for ask in (stream, single) for _ in range(STREAMS // 4)]
        before = await asyncio.to_thread(steps, server)
        while await asyncio.to_thread(steps, server) < before + len(tasks):
            assert not any(task.done() for task in tasks)
        assert not any(task.done() for task in tasks)
        disturb.send_signal(signal.SIGKILL)
        return await asyncio.gather(*tasks)
