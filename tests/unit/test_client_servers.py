"""Several servers behind one client: in turn, and past those that are stopping, gone or refuse."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from fake_triton import FakeTriton
from fictures import AsyncClient, Client, ConfigurationError, ServerUnreachable, TextResult, Unavailable
from fictures.connection import Connection
from fictures.responses import from_rpc
from fictures.retries import Retries

STOPPING = "Request for unknown model: 'gemma' has no available versions"
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
STREAMED = pytest.mark.parametrize("streamed", [False, True])


class Replica(FakeTriton):
    """Counts its requests, and refuses them while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.refusal: str | None = None
        self.loses = False

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.taken += 1
        if self.loses:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        if self.refusal:
            next(requests)
            yield from self.answer_fail(self.refusal, context)
        else:
            yield from super().ModelStreamInfer(requests, context)


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    servers = [Replica() for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


def url_of(replicas: list[Replica]) -> str:
    return ",".join(replica.url for replica in replicas)


def ask(kind: str, url: str, times: int, *, streamed: bool = False, prompt: str = "hello") -> list[str]:
    """The texts of so many requests, one after the other, over one client."""
    if kind == "sync":
        with Client(url, timeout=10) as client:
            return [_text(client, prompt, streamed) for _ in range(times)]

    async def ask_all() -> list[str]:
        async with AsyncClient(url, timeout=10) as client:
            return [await _async_text(client, prompt, streamed) for _ in range(times)]

    return asyncio.run(ask_all())


def _text(client: Client, prompt: str, streamed: bool) -> str:
    if streamed:
        return "".join(chunk.text for chunk in client.stream_text(prompt))
    return client.generate_text(prompt).text


async def _async_text(client: AsyncClient, prompt: str, streamed: bool) -> str:
    if streamed:
        return "".join([chunk.text async for chunk in client.stream_text(prompt)])
    result: TextResult = await client.generate_text(prompt)
    return result.text


@KINDS
def test_requests_go_to_the_servers_in_turn(kind: str, replicas: list[Replica]) -> None:
    ask(kind, url_of(replicas), 3)  # until there is a connection to each, one of them gets more
    before = [replica.taken for replica in replicas]
    ask(kind, url_of(replicas), 30)
    taken = [replica.taken - first for replica, first in zip(replicas, before, strict=True)]
    assert sum(taken) == 30
    assert min(taken) >= 5


@KINDS
@STREAMED
def test_what_a_stopping_server_refuses_another_takes(kind: str, streamed: bool, replicas: list[Replica]) -> None:
    replicas[0].refusal = STOPPING
    assert Counter(ask(kind, url_of(replicas), 12, streamed=streamed)) == {"one two": 12}
    assert replicas[0].taken, "it was asked"


@KINDS
@STREAMED
def test_a_server_that_is_gone_is_left_out(kind: str, streamed: bool, replicas: list[Replica]) -> None:
    replicas[1].stop()
    assert Counter(ask(kind, url_of(replicas), 12, streamed=streamed)) == {"one two": 12}


@KINDS
@STREAMED
def test_a_refusal_by_all_is_the_answer(kind: str, streamed: bool, replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.refusal = STOPPING
    with pytest.raises(Unavailable, match="no available versions"):
        ask(kind, url_of(replicas), 1, streamed=streamed)
    assert sum(replica.taken for replica in replicas) == 8


@KINDS
@STREAMED
def test_a_request_that_broke_a_connection_is_sent_once_more_and_not_to_all(
    kind: str, streamed: bool, replicas: list[Replica]
) -> None:
    for replica in replicas:
        replica.loses = True
    with pytest.raises(ServerUnreachable):
        ask(kind, url_of(replicas), 1, streamed=streamed)
    assert sum(replica.taken for replica in replicas) == 2


@KINDS
def test_a_wrong_request_is_not_sent_again(kind: str, replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.refusal = "max_tokens: 0 is not allowed: 1 or more"
    with pytest.raises(Exception, match="max_tokens"):
        ask(kind, url_of(replicas), 1)
    assert sum(replica.taken for replica in replicas) == 1


@KINDS
def test_a_stream_that_has_begun_is_not_begun_again(kind: str, replicas: list[Replica]) -> None:
    with pytest.raises(Exception, match="final response"):
        ask(kind, url_of(replicas), 1, streamed=True, prompt="unfinished")
    assert sum(replica.taken for replica in replicas) == 1


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("triton:8001", "triton:8001"),
        ("10.0.0.1:8001", "10.0.0.1:8001"),
        ("10.0.0.1:8001, 10.0.0.2:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
        ("[fd00::1]:8001,[fd00::2]:8001", "ipv6:[fd00::1]:8001,[fd00::2]:8001"),
    ],
)
def test_several_servers_are_written_as_grpc_takes_them(
    url: str, target: str, connect: Callable[..., Connection]
) -> None:
    assert connect(url).target == target


@pytest.mark.parametrize("url", ["a:1,b:1", "10.0.0.1:1,triton:1", "10.0.0.1:1,[fd00::1]:1", "10.0.0.1:1,", ":1", "a"])
def test_servers_that_grpc_cannot_take_together_are_refused(url: str, connect: Callable[..., Connection]) -> None:
    with pytest.raises(ConfigurationError, match="url="):
        connect(url)


def test_several_servers_over_tls_need_one_name(connect: Callable[..., Connection]) -> None:
    with pytest.raises(ConfigurationError, match="one name that has all addresses"):
        connect("10.0.0.1:1,10.0.0.2:1", ssl=True)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_keepalive_is_a_number_of_seconds(seconds: float, connect: Callable[..., Connection]) -> None:
    with pytest.raises(ConfigurationError, match="keepalive="):
        connect("a:1", keepalive=seconds)


@pytest.fixture
def connect() -> Callable[..., Connection]:
    defaults = dict.fromkeys(
        ("root_certificates", "private_key", "certificate_chain", "headers", "api_key", "keepalive")
    )
    return lambda url, **given: Connection.create(url, **{"ssl": False, **defaults, **given})


def test_a_call_that_ended_while_its_request_was_sent_is_a_broken_connection() -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core"
    )
    assert isinstance(from_rpc(error), ServerUnreachable)


def test_a_refusal_that_took_long_is_an_answer_and_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("fictures.retries.time.monotonic", lambda: now)
    retries = Retries()
    now += 0.1
    assert retries.allow(Unavailable("the text engine is restarting"))
    now += 16
    assert not retries.allow(Unavailable("the model could not be loaded"))
