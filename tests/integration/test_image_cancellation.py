"""A request for images that is cancelled, or whose client goes away, frees its place at the next step."""

import asyncio
import socket
import threading
from collections.abc import Callable

import httpx
import pytest

from conftest import Server, loaded_image_engine, wait_for
from fictures import AsyncClient, Client, DeadlineExceeded
from triton_image import SMALL

LONG = {"width": 256, "height": 256, "num_inference_steps": 100}
SOON = 60  # steps; 100 would be made if nobody noticed


def running(server: Server) -> float:
    return server.metric("fictures_image_requests_running") + server.metric("fictures_image_requests_waiting")


def steps(server: Server, model: str = "sdxl_stream") -> float:
    """How many steps of images an engine has made."""
    return server.metric("fictures_image_step_images_sum", model=model)


def close_stream(server: Server) -> None:
    with Client(server.grpc_url) as client, client.stream_image("a", **LONG) as events:
        next(events)


def cancel_async_task(server: Server) -> None:
    async def read_one() -> None:
        async with AsyncClient(server.grpc_url) as client, client.stream_image("a", **LONG) as events:
            await anext(events)

    asyncio.run(read_one())


def time_out_a_single_request(server: Server) -> None:
    with Client(server.grpc_url) as client, pytest.raises(DeadlineExceeded):
        client.generate_image("a", timeout=0.5, **LONG)


def drop_generate_stream(server: Server) -> None:
    body = b'{"prompt": "a", "width": 256, "height": 256, "num_inference_steps": 100}'
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as connection:
        head = f"POST /v2/models/sdxl_stream/generate_stream HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert b"data:" in connection.recv(65536) + connection.recv(65536)


@pytest.mark.parametrize(
    "leave",
    [close_stream, cancel_async_task, time_out_a_single_request, drop_generate_stream],
    ids=lambda f: f.__name__,
)
def test_leaving_frees_the_place_at_once(server: Server, leave: Callable[[Server], None]) -> None:
    wait_for(lambda: running(server) == 0, 30, "no request left of another test")
    before = steps(server)
    leave(server)
    wait_for(lambda: running(server) == 0, 30, "the engine is empty")
    assert steps(server) - before < SOON


def test_those_who_stay_are_not_harmed(server: Server) -> None:
    async def draw(client: AsyncClient, number: int) -> int:
        seen, images = 0, ()
        async with client.stream_image(f"boat {number}", **SMALL | {"num_inference_steps": 20}) as events:
            async for event in events:
                seen, images = seen + 1, event.images
                if number % 2 and seen == 3:
                    return 0
        return len(images)

    async def all_at_once() -> list[int]:
        async with AsyncClient(server.grpc_url) as client:
            return await asyncio.gather(*(draw(client, number) for number in range(16)))

    before = steps(server)
    assert asyncio.run(all_at_once()) == [1, 0] * 8
    wait_for(lambda: running(server) == 0, 30, "the engine is empty")
    assert steps(server) - before < 16 * 20, "those who left were not drawn to their end"


def test_a_request_that_still_waits_can_be_cancelled(server: Server) -> None:
    with loaded_image_engine(server, "one_place", max_batch_size=1), Client(server.grpc_url) as client:
        first = client.stream_image("a", model="one_place", **SMALL | {"num_inference_steps": 60})
        next(first)
        second = client.stream_image("a", model="one_place", **SMALL)
        waiting = "fictures_image_requests_waiting"
        wait_for(lambda: server.metric(waiting, model="one_place") == 1, 30, "the second one waits")
        second.close()
        wait_for(lambda: server.metric(waiting, model="one_place") == 0, 30, "it waits no more")
        assert steps(server, "one_place") < 60, "the first one was drawn all the while"
        assert list(first)[-1].images


def test_sizes_take_turns_so_that_none_starves(server: Server) -> None:
    """A small image is done long before a large one that came first."""
    with Client(server.grpc_url, timeout=60) as client:
        large = client.stream_image("a", width=512, height=512, num_inference_steps=30)
        next(large)
        small = client.stream_image("a", **SMALL)
        assert list(small)[-1].images
        assert next(large).step < 15
        large.close()


@pytest.mark.timeout(300)
def test_a_reload_under_load_loses_nothing(server: Server) -> None:
    """Requests that run are finished by the old engine, those that come are drawn by the new one."""
    control = f"{server.http_url}/v2/repository/models/reloaded"
    stop, failures, done = threading.Event(), [], [0]

    def draw() -> None:
        with Client(server.grpc_url, timeout=60) as client:
            while not stop.is_set():
                try:
                    done[0] += len(list(client.stream_image("a", model="reloaded", **SMALL))[-1].images)
                except Exception as error:
                    failures.append(error)

    def drawn(count: int) -> None:
        wait_for(lambda: done[0] >= count or failures != [], 60, f"{count} images drawn")

    with loaded_image_engine(server, "reloaded"):
        threads = [threading.Thread(target=draw) for _ in range(4)]
        for thread in threads:
            thread.start()
        drawn(4)
        path = server.repository / "reloaded/1/model.json"
        path.write_text(path.read_text().replace('"max_batch_size": 8', '"max_batch_size": 4'))
        httpx.post(f"{control}/load", timeout=120).raise_for_status()
        drawn(done[0] + 8)
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
