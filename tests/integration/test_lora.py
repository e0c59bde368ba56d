"""`lora_name` picks an adapter for one request; a name that the model does not have is refused."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from conftest import ROOT, Server, loaded_model, make_tiny_model
from fictures import Client, Unavailable
from triton_text import Response, generate, joined, stream

PROMPT = "Once upon a time"
MODEL = "gemma_lora"


@dataclass(frozen=True)
class LoraServer:
    """A model with the adapters `bold` and `shy`."""

    grpc_url: str


@pytest.fixture(scope="module")
def engine_args(server: Server) -> dict[str, Any]:
    folder = make_tiny_model(ROOT / ".run/models/tiny-gemma-lora", "--lora", "bold", "--lora", "shy")
    return {"model": str(folder), "enable_lora": True, "max_lora_rank": 8}


@pytest.fixture(scope="module")
def adapters(engine_args: dict[str, Any]) -> dict[str, str]:
    return {name: f"{engine_args['model']}/adapters/{name}" for name in ("bold", "shy")}


@pytest.fixture(scope="module")
def lora_server(server: Server, engine_args: dict[str, Any], adapters: dict[str, str]) -> Iterator[LoraServer]:
    with loaded_model(server, MODEL, engine_args, adapters):
        yield LoraServer(server.grpc_url)


async def text(lora_server: LoraServer, **lora: str) -> Response:
    return await generate(lora_server.grpc_url, PROMPT, model=MODEL, parameters={"max_tokens": 32, **lora})


async def test_an_adapter_changes_the_text(lora_server: LoraServer) -> None:
    base = await text(lora_server)
    bold, shy = [await text(lora_server, lora_name=name) for name in ("bold", "shy")]
    assert len({base.text, bold.text, shy.text}) == 3


async def test_streamed_text_is_the_adapters_too(lora_server: LoraServer) -> None:
    parameters = {"max_tokens": 32, "lora_name": "bold"}
    streamed = joined(await stream(lora_server.grpc_url, PROMPT, model=MODEL, parameters=parameters))
    assert streamed.token_ids == (await text(lora_server, lora_name="bold")).token_ids


async def test_requests_with_and_without_adapters_run_side_by_side(lora_server: LoraServer) -> None:
    choices = [{}, {"lora_name": "bold"}, {"lora_name": "shy"}]
    alone = [(await text(lora_server, **lora)).token_ids for lora in choices]
    together = await asyncio.gather(*(text(lora_server, **lora) for lora in choices * 5))
    assert [response.token_ids for response in together] == alone * 5


async def test_an_unknown_adapter_is_refused_with_the_known_ones(lora_server: LoraServer) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await text(lora_server, lora_name="loud")
    for part in ("lora_name", "loud", "bold", "shy"):
        assert part in str(refused.value)


async def test_a_model_without_adapters_refuses_every_name(server: Server) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await generate(server.grpc_url, PROMPT, parameters={"lora_name": "bold"})
    assert "lora_name" in str(refused.value)


def test_a_lazy_model_with_a_broken_adapter_says_so_and_is_not_ready_any_more(
    server: Server, engine_args: dict[str, Any], adapters: dict[str, str]
) -> None:
    name = "gemma_narrow"
    narrow = engine_args | {"max_lora_rank": 1, "enforce_eager": True}
    with (
        loaded_model(server, name, narrow, {"bold": adapters["bold"]}, lazy=True),
        Client(server.grpc_url, model=name, timeout=120) as client,
    ):
        assert client.health().ok, "nobody has tried to load it"
        with pytest.raises(Unavailable, match=r"adapter 'bold'.*rank"):
            client.generate_text(PROMPT, max_tokens=4)
        assert "adapter 'bold'" in client.health().models[name]
