"""The Python clients against the real server."""

import asyncio
import time

import httpx
import pytest

import fictures
from conftest import Server, loaded_model, wait_for
from fictures import AsyncClient, Client

LONG = {"max_tokens": 3000, "ignore_eos": True, "temperature": 1.0}
FREED = 2 + 2.5  # seconds: what is promised, and what the metric may lag behind, which is copied every two seconds


def engine_is_idle(server: Server) -> bool:
    return server.metric("vllm:num_requests_running", model="gemma") == 0


def test_whole_and_streamed_texts_are_the_same(server: Server) -> None:
    with Client(server.grpc_url) as client:
        whole = client.generate_text("The harbour", max_tokens=12, temperature=0)
        chunks = list(client.stream_text("The harbour", max_tokens=12, temperature=0))
    assert whole.text == "".join(chunk.text for chunk in chunks)
    assert whole.num_output_tokens == sum(chunk.num_output_tokens for chunk in chunks) == 12
    assert whole.finish_reason == chunks[-1].finish_reason == "length"
    assert {chunk.finish_reason for chunk in chunks[:-1]} <= {None}
    assert whole.num_input_tokens == chunks[0].num_input_tokens


def test_both_clients_give_the_same_text(server: Server) -> None:
    async def generate() -> str:
        async with AsyncClient(server.grpc_url) as client:
            return (await client.generate_text("The harbour", max_tokens=12, temperature=0)).text

    with Client(server.grpc_url) as client:
        assert asyncio.run(generate()) == client.generate_text("The harbour", max_tokens=12, temperature=0).text


def test_a_chat_is_rendered_by_the_server(server: Server) -> None:
    with Client(server.grpc_url) as client:
        chat = client.chat([{"role": "user", "content": "Hello"}], max_tokens=4, temperature=0)
        plain = client.generate_text("Hello", max_tokens=4, temperature=0)
    assert chat.num_input_tokens is not None
    assert plain.num_input_tokens is not None
    assert chat.num_input_tokens > plain.num_input_tokens


def test_seed_and_stop_do_what_they_say(server: Server) -> None:
    with Client(server.grpc_url) as client:
        first, second = (client.generate_text("Once", seed=7, temperature=1.0, max_tokens=8).text for _ in range(2))
        assert first == second
        word = first.split()[2]
        assert word not in client.generate_text("Once", seed=7, temperature=1.0, max_tokens=8, stop=word).text


def test_a_wrong_parameter_is_an_invalid_request_that_names_it(server: Server) -> None:
    with Client(server.grpc_url) as client:
        for _ in range(5):
            with pytest.raises(fictures.InvalidRequest, match="temperature"):
                client.generate_text("Hello", temperature=-1)
            with pytest.raises(fictures.InvalidRequest, match="temperature"):
                list(client.stream_text("Hello", temperature=-1))
        assert client.health().ok


def test_an_unknown_model_is_not_found(server: Server) -> None:
    with Client(server.grpc_url) as client, pytest.raises(fictures.ModelNotFound, match="nope"):
        client.generate_text("Hello", model="nope")


def test_leaving_a_stream_frees_the_engine_within_two_seconds(server: Server) -> None:
    with Client(server.grpc_url) as client:
        for _ in client.stream_text("Hello", **LONG):
            break
        wait_for(lambda: engine_is_idle(server), FREED, "the engine is idle")


def test_a_whole_text_that_times_out_frees_the_engine_within_two_seconds(server: Server) -> None:
    with Client(server.grpc_url) as client:
        began = time.monotonic()
        with pytest.raises(fictures.DeadlineExceeded):
            client.generate_text("Hello", timeout=0.5, **LONG)
        assert time.monotonic() - began < 5, "the whole text would take longer"
        wait_for(lambda: engine_is_idle(server), FREED, "the engine is idle")


async def test_cancelling_a_task_frees_the_engine_within_two_seconds(server: Server) -> None:
    async with AsyncClient(server.grpc_url) as client:
        task = asyncio.create_task(client.generate_text("Hello", **LONG))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_for, lambda: engine_is_idle(server), FREED, "the engine is idle")


async def test_many_streams_of_one_client_run_side_by_side(server: Server) -> None:
    async with AsyncClient(server.grpc_url) as client:

        async def tokens() -> int:
            stream = client.stream_text("Hello", max_tokens=16, ignore_eos=True)
            return sum([chunk.num_output_tokens async for chunk in stream])

        assert await asyncio.gather(*(tokens() for _ in range(32))) == [16] * 32


def test_models_and_health_agree_with_triton(server: Server) -> None:
    with Client(server.grpc_url) as client:
        models = {model.name: model for model in client.models()}
        health = client.health()
    metadata = httpx.get(f"{server.http_url}/v2/models/gemma", timeout=10).json()
    assert models["gemma"].ready
    assert [tensor.name for tensor in models["gemma"].inputs] == [tensor["name"] for tensor in metadata["inputs"]]
    assert (health.ok, health.models["gemma"]) == (True, "ready")


def test_a_model_whose_requests_failed_can_be_unloaded(server: Server) -> None:
    wrong = {"model": "gemma_refusing", "structured_outputs": {"grammar": "root ::= ((("}}

    async def stream(client: AsyncClient) -> None:
        with pytest.raises(fictures.InvalidRequest, match="structured_outputs"):
            async for _ in client.stream_text("a", **wrong):
                pass

    async def whole(client: AsyncClient) -> None:
        with pytest.raises(fictures.InvalidRequest, match="structured_outputs"):
            await client.generate_text("a", **wrong)

    async def many() -> None:
        async with AsyncClient(server.grpc_url) as client:
            for request in (stream, whole) * 5:
                await asyncio.gather(*(request(client) for _ in range(16)))

    with loaded_model(server, "gemma_refusing", {"enforce_eager": True}):  # unloads it at the end
        asyncio.run(many())
        with Client(server.grpc_url) as client:
            for _ in range(40):
                with pytest.raises(fictures.InvalidRequest, match="structured_outputs"):
                    client.generate_text("a", **wrong)
                with pytest.raises(fictures.InvalidRequest, match="structured_outputs"):
                    list(client.stream_text("a", **wrong))
