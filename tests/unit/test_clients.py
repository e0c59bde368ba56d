"""The clients against a small Triton of their own in this process: real sockets, scripted answers.

Tests that take `kind` run twice: the synchronous and the asynchronous client promise the same.
"""

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

import fictures
from fake_triton import FakeTriton
from fictures import AsyncClient, Client, Health, TextChunk, TextResult
from fictures.errors import from_status, from_stream_message

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


def generate(kind: str, url: str, prompt: str = "hello", **arguments: Any) -> TextResult:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return client.generate_text(prompt, **arguments)

    async def run() -> TextResult:
        async with AsyncClient(url, timeout=5) as client:
            return await client.generate_text(prompt, **arguments)

    return asyncio.run(run())


def stream(kind: str, url: str, prompt: str = "hello", **arguments: Any) -> list[TextChunk]:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return list(client.stream_text(prompt, **arguments))

    async def run() -> list[TextChunk]:
        async with AsyncClient(url, timeout=5) as client:
            return [chunk async for chunk in client.stream_text(prompt, **arguments)]

    return asyncio.run(run())


def health(kind: str, url: str, **arguments: Any) -> Health:
    if kind == "sync":
        with Client(url, timeout=5) as client:
            return client.health(**arguments)

    async def run() -> Health:
        async with AsyncClient(url, timeout=5) as client:
            return await client.health(**arguments)

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("call", [generate, stream])
Call = Callable[..., Any]


# Answers


@KINDS
def test_a_whole_text_comes_with_its_reason_and_token_counts(kind: str, triton: FakeTriton) -> None:
    assert generate(kind, triton.url) == TextResult("one two", "stop", 7, 4, "gemma")


@KINDS
def test_a_stream_is_its_deltas_and_its_empty_final_response_is_no_chunk(kind: str, triton: FakeTriton) -> None:
    assert stream(kind, triton.url) == [TextChunk("one ", None, 7, 1), TextChunk("two", "stop", 7, 3)]


@KINDS
def test_the_request_carries_the_tensors_of_the_contract(kind: str, triton: FakeTriton) -> None:
    generate(kind, triton.url, "hello", temperature=0, stop="END", top_k=4, lora="poet")
    inputs = triton.inputs()
    assert json.loads(inputs.pop("sampling_parameters")) == {
        "max_tokens": 256,
        "temperature": 0,
        "stop": ["END"],
        "top_k": 4,
        "lora_name": "poet",
    }
    assert inputs == {
        "text_input": "hello",
        "stream": False,
        "exclude_input_in_output": True,
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def test_a_chat_goes_as_messages_beside_an_empty_prompt(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        client.chat([{"role": "user", "content": "hi"}], chat_template_kwargs={"thinking": True})
        inputs = triton.inputs()
    assert inputs["text_input"] == ""
    assert json.loads(inputs["messages"]) == [{"role": "user", "content": "hi"}]
    assert json.loads(inputs["chat_template_kwargs"]) == {"thinking": True}


def test_structured_outputs_may_be_an_object(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        client.generate_text("hello", structured_outputs={"choice": ["yes", "no"]})
    sent = json.loads(triton.inputs()["sampling_parameters"])
    assert json.loads(sent["structured_outputs"]) == {"choice": ["yes", "no"]}


def test_the_api_key_and_headers_go_with_every_request(triton: FakeTriton) -> None:
    with Client(triton.url, api_key="secret\n", headers={"X-Tenant": "a"}) as client:
        client.generate_text("hello")
    assert triton.metadata["authorization"] == "Bearer secret"
    assert triton.metadata["x-tenant"] == "a"


def test_streams_of_one_client_run_side_by_side(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        streams = [client.stream_text("hello") for _ in range(20)]
        assert all("".join(chunk.text for chunk in each) == "one two" for each in streams)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def surface(client: type) -> dict[str, list[str]]:
        public = {name: method for name, method in vars(client).items() if not name.startswith("_")}
        return {name.removeprefix("a"): list(inspect.signature(m).parameters) for name, m in public.items()}

    assert surface(Client) == surface(AsyncClient)
    assert list(inspect.signature(Client).parameters) == list(inspect.signature(AsyncClient).parameters)


# Errors


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("INVALID_ARGUMENT", fictures.InvalidRequest),
        ("NOT_FOUND", fictures.ModelNotFound),
        ("UNAVAILABLE", fictures.Unavailable),
        ("RESOURCE_EXHAUSTED", fictures.Unavailable),
        ("DEADLINE_EXCEEDED", fictures.DeadlineExceeded),
        ("CANCELLED", fictures.Cancelled),
        ("UNAUTHENTICATED", fictures.Unauthenticated),
        ("PERMISSION_DENIED", fictures.PermissionDenied),
        ("INTERNAL", fictures.ServerError),
        ("UNIMPLEMENTED", fictures.ServerError),
    ],
)
@BOTH
@KINDS
def test_each_grpc_status_has_its_exception(
    kind: str, call: Call, status: str, error: type[Exception], triton: FakeTriton
) -> None:
    with pytest.raises(error) as caught:
        call(kind, triton.url, f"abort {status}")
    assert type(caught.value) is error
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("temperature: 'hot' is not allowed: must be a number", fictures.InvalidRequest),
        ("sampling parameters: structured_outputs needs one of json, regex", fictures.InvalidRequest),
        ("messages: this model takes no system message", fictures.InvalidRequest),
        ("unexpected inference input 'nope' for model 'gemma'", fictures.InvalidRequest),
        ("Request for unknown model: 'nope' is not found", fictures.ModelNotFound),
        ("Request for unknown model: 'gemma' has no available versions", fictures.Unavailable),
        ("Stub process 'gemma_0_0' is not healthy", fictures.Unavailable),
        ("the text engine is restarting; try again in some seconds", fictures.Unavailable),
        ("request was cancelled", fictures.Cancelled),
        ("generation failed: RuntimeError('out of memory')", fictures.ServerError),
    ],
)
@BOTH
@KINDS
def test_an_error_text_inside_a_stream_becomes_its_exception(
    kind: str, call: Call, message: str, error: type[Exception], triton: FakeTriton
) -> None:
    with pytest.raises(error, match="^" + message.split("'")[0].split("(")[0]) as caught:
        call(kind, triton.url, f"fail {message}")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (fictures.InvalidRequest, message)
        for message in [
            "text_input: 'try again' is not allowed: must be empty when messages is given",
            "text_input: '' is not allowed: a prompt of one character or more, or messages",
            "text_input: '; try again' is not allowed: must be empty when messages is given",
            "text_input: Request for unknown model: 'x' is not found",
            "exclude_input_in_output: False is not allowed: must be true, or absent, when streaming",
            "health_check: 'cancelled' is not allowed: true or false",
            "stream: [] is not allowed: one element, shape [1], not 0",
            "messages: the template says: the request was cancelled",
            "messages: 'is not healthy' is not allowed: JSON (Expecting value: line 1 column 1 (char 0))",
            "messages.0.content: 'unloaded' is not allowed: Input should be a valid string",
            "messages.0.content.1._Part.image_url.url: 'http://x' is not allowed: String should match pattern '^data:'",
            "chat_template_kwargs.tokenize: True is not allowed: set by the server",
            "image: '2 images' is not allowed: this model reads text only",
            "image[0]: b'x' is not allowed: a base64 image file (Incorrect padding)",
            "sampling_parameters: [] is not allowed: a JSON object",
            "sampling parameters: the request was cancelled",
            "structured_outputs: the grammar is wrong; try again",
            "structured_outputs: exactly one of json, regex, choice, grammar or json_object must be set",
            "lora_name: 'is not ready' is not allowed: one of ['poet']",
            "stop: ['cancelled'] is not allowed: list should have at most 64 items after validation, not 65",
            "logit_bias: 70000 is not allowed: token ids of this model are 0 to 511",
            "n: 2 is not allowed: must be 1 when temperature is 0, since all outputs would be the same",
            "Top K: 5 is not allowed: there is no such sampling parameter; there are: n, temperature",
            "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'gemma'",
            "[request id: 7] inference input 'text_input' data-type is 'INT32', but model 'gemma' expects 'BYTES'",
        ]
    ]
    + [
        (fictures.Unavailable, message)
        for message in [
            "the text engine is starting; try again in some seconds",
            "the text engine is restarting after its process died; try again in some seconds",
            "the text engine is stopped; try again in some seconds",
            "the text engine's process died while it served this request; try again",
            "the model is being unloaded; try again",
            "The engine is currently busy and cannot accept new requests. "
            "Please try again later or on a different instance.",
            "The engine has reached its prefill token backlog limit. "
            "Please try again later or on a different instance.",
            "Request for unknown model: 'gemma' version 1 is not at ready state",
        ]
    ]
    + [
        (fictures.Cancelled, "the request was cancelled"),
        (fictures.ModelNotFound, "Request for unknown model: 'try again' is not found"),
        (fictures.ServerError, "generation failed: ValueError('x: 1 is not allowed: the request was cancelled')"),
        (fictures.ServerError, "the request could not be read: KeyError('inference request; try again')"),
        (fictures.ServerError, "the engine failed while it generated this text"),
        (fictures.ServerError, "the engine ended the request without a last output"),
    ],
)
def test_an_error_text_is_not_mistaken_for_the_words_it_quotes(error: type[Exception], message: str) -> None:
    assert type(from_stream_message(message)) is error


@BOTH
@KINDS
def test_a_stream_without_a_final_response_is_a_server_error(kind: str, call: Call, triton: FakeTriton) -> None:
    with pytest.raises(fictures.ServerError, match="before its final response"):
        call(kind, triton.url, "unfinished")


@BOTH
@KINDS
def test_nothing_at_the_url_is_server_unreachable(kind: str, call: Call) -> None:
    with pytest.raises(fictures.ServerUnreachable):
        call(kind, "127.0.0.1:1")


@BOTH
@KINDS
def test_a_server_that_stops_in_the_middle_is_unavailable(kind: str, call: Call, triton: FakeTriton) -> None:
    threading.Timer(0.3, triton.stop).start()
    with pytest.raises(fictures.Unavailable):
        call(kind, triton.url, "silent")


@pytest.mark.parametrize(
    "words",
    ["failed to connect to all addresses", "Stream removed (Socket closed)", "recvmsg:Connection reset by peer"],
)
def test_a_broken_connection_is_told_from_a_server_that_refuses(words: str) -> None:
    assert type(from_status("StatusCode.UNAVAILABLE", words)) is fictures.ServerUnreachable
    assert type(from_status("UNAVAILABLE", "Server not ready")) is fictures.Unavailable


@pytest.mark.parametrize(
    "arguments",
    [{"n": 2}, {"timeout": 0}, {"timeout": float("inf")}, {"logit_bias": {1, 2}}, {"temperature": float("nan")}],
)
@BOTH
@KINDS
def test_what_cannot_be_sent_is_refused_at_once(
    kind: str, call: Call, arguments: dict[str, Any], triton: FakeTriton
) -> None:
    with pytest.raises(fictures.InvalidRequest):
        call(kind, triton.url, **arguments)
    assert triton.request is None


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    "arguments", [{"url": "http://127.0.0.1:8001"}, {"ssl": True, "root_certificates": "/nowhere"}]
)
def test_a_wrong_address_or_certificate_is_a_configuration_error(client: type, arguments: dict[str, Any]) -> None:
    with pytest.raises(fictures.ConfigurationError, match=r"url=http://|/nowhere"):
        client(**arguments)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"api_key": "schlüssel"}, "api_key"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"headers": {"x-tenant": "é"}}, "x-tenant"),
        ({"headers": {"é": "x"}}, "'é'"),
        ({"headers": {"a b": "x"}}, "'a b'"),
        ({"headers": {"x-bin": "x"}}, "'x-bin'"),
        ({"headers": {"x-tenant": 3}}, "x-tenant"),
    ],
)
def test_what_cannot_be_a_header_is_a_configuration_error(client: type, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(fictures.ConfigurationError, match=name) as caught:
        client(**arguments)
    assert "schlüssel" not in str(caught.value)


# Timeouts and cancellation


@BOTH
@KINDS
def test_no_wait_is_longer_than_the_timeout_and_the_request_is_cancelled(
    kind: str, call: Call, triton: FakeTriton
) -> None:
    began = time.monotonic()
    with pytest.raises(fictures.DeadlineExceeded):
        call(kind, triton.url, "silent", timeout=0.3)
    assert time.monotonic() - began < 5  # the answer would take 20
    assert triton.cancelled.wait(5)


def test_a_stream_may_last_longer_than_the_timeout_while_pieces_come(triton: FakeTriton) -> None:
    with Client(triton.url) as client, client.stream_text("endless", timeout=0.2) as chunks:
        began = time.monotonic()
        for _ in chunks:
            if time.monotonic() - began > 0.5:
                break


def test_breaking_out_of_a_stream_cancels_the_request_within_a_second(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        for _ in client.stream_text("endless"):
            break
        assert triton.cancelled.wait(5)


def test_closing_a_stream_cancels_the_request_and_ends_the_iteration(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        chunks = client.stream_text("endless")
        next(chunks)
        chunks.close()
        chunks.close()
        assert list(chunks) == []
        assert triton.cancelled.wait(5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_reader_cancels_the_request(error: type[BaseException], triton: FakeTriton) -> None:
    def read(client: Client) -> None:
        with client.stream_text("endless") as chunks:
            for _ in chunks:
                raise error

    with Client(triton.url) as client:
        with pytest.raises(error):
            read(client)
        assert triton.cancelled.wait(5)


def test_an_abandoned_stream_cancels_the_request(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        chunks = client.stream_text("endless")
        next(chunks)
        del chunks
        assert triton.cancelled.wait(5)


def test_closing_the_client_ends_its_streams(triton: FakeTriton) -> None:
    client = Client(triton.url)
    chunks = client.stream_text("silent")
    next(chunks)
    client.close()
    with pytest.raises(fictures.Cancelled):
        list(chunks)
    assert triton.cancelled.wait(5)


def test_no_thread_stays_behind(triton: FakeTriton) -> None:
    def streams() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "fictures-stream"]

    with Client(triton.url) as client:
        list(client.stream_text("hello"))
        with client.stream_text("endless") as chunks:
            next(chunks)
        with pytest.raises(fictures.ServerError):
            list(client.stream_text("fail x"))
        assert streams() == []


async def test_cancelling_the_task_cancels_the_request(triton: FakeTriton) -> None:
    async def read(client: AsyncClient) -> None:
        async for _ in client.stream_text("silent"):
            pass

    async with AsyncClient(triton.url) as client:
        task = asyncio.create_task(read(client))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(triton.cancelled.wait, 5)


async def test_breaking_out_of_an_async_stream_cancels_the_request(triton: FakeTriton) -> None:
    async with AsyncClient(triton.url) as client:
        async for _ in client.stream_text("endless"):
            break
        assert await asyncio.to_thread(triton.cancelled.wait, 5)


async def test_closing_the_async_client_ends_its_streams_without_cancelling_their_task(triton: FakeTriton) -> None:
    client = AsyncClient(triton.url)
    chunks = client.stream_text("silent")
    await anext(chunks)
    reading = asyncio.create_task(anext(chunks))
    await asyncio.sleep(0.1)
    await client.aclose()
    with pytest.raises(fictures.Cancelled):
        await reading


def test_a_closed_client_says_so(triton: FakeTriton) -> None:
    client = Client(triton.url)
    client.close()
    client.close()
    for method in (lambda: client.generate_text("hello"), lambda: client.stream_text("hello"), client.models):
        with pytest.raises(fictures.Cancelled, match="was closed"):
            method()
    assert not client.health().ok


@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_async_client_says_so(used: bool, triton: FakeTriton) -> None:
    client = AsyncClient(triton.url)
    if used:
        await client.generate_text("hello")
    await client.aclose()
    await client.aclose()
    for method in (lambda: client.generate_text("hello"), lambda: anext(client.stream_text("hello")), client.models):
        with pytest.raises(fictures.Cancelled, match="was closed"):
            await method()
    assert not (await client.health()).ok


def test_closing_the_client_ends_a_pending_call(triton: FakeTriton) -> None:
    client = Client(triton.url)
    threading.Timer(0.3, client.close).start()
    with pytest.raises(fictures.Cancelled, match="was closed"):
        client.generate_text("silent")


async def test_closing_the_async_client_ends_a_pending_call_without_cancelling_its_task(triton: FakeTriton) -> None:
    client = AsyncClient(triton.url)
    call = asyncio.create_task(client.generate_text("silent"))
    await asyncio.sleep(0.3)
    await client.aclose()
    with pytest.raises(fictures.Cancelled, match="was closed"):
        await call


def test_whatever_fails_in_the_receiving_thread_reaches_the_reader(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: Call) -> Iterator[Any]:
        raise ValueError("no such call")

    monkeypatch.setattr("fictures.call.Call.__iter__", broken)
    with Client(triton.url) as client, pytest.raises(fictures.ServerError, match="no such call"):
        list(client.stream_text("hello"))


# Models and health


def test_models_lists_states_and_tensors(triton: FakeTriton) -> None:
    triton.index.append(pb.RepositoryIndexResponse.ModelIndex(name="sdxl", state="UNAVAILABLE", reason="no memory"))
    with Client(triton.url) as client:
        gemma, sdxl = client.models()
    assert gemma.ready
    assert gemma.platform == "vllm"
    assert gemma.inputs == (fictures.TensorInfo("text_input", "BYTES", (1,)),)
    assert (sdxl.ready, sdxl.reason) == (False, "no memory")


@KINDS
def test_a_serving_server_is_healthy(kind: str, triton: FakeTriton) -> None:
    assert health(kind, triton.url) == Health(True, True, True, {"gemma": "ready"})


@KINDS
def test_a_ready_model_whose_engine_is_down_is_unhealthy(kind: str, triton: FakeTriton) -> None:
    triton.probe_error = "Stub process 'gemma_0_0' is not healthy."
    found = health(kind, triton.url)
    assert (found.ok, found.live, found.ready) == (False, True, True)
    assert found.reason == f"gemma: {triton.probe_error}"


@KINDS
def test_a_model_that_failed_to_load_is_unhealthy_and_an_idle_one_is_not(kind: str, triton: FakeTriton) -> None:
    idle = pb.RepositoryIndexResponse.ModelIndex(name="idle")
    failed = pb.RepositoryIndexResponse.ModelIndex(name="sdxl", state="UNAVAILABLE", reason="no memory")
    triton.index.append(idle)
    assert health(kind, triton.url).ok
    triton.index.append(failed)
    assert health(kind, triton.url).reason == "sdxl: no memory"


@KINDS
def test_a_server_that_is_down_is_unhealthy_and_nothing_is_raised(kind: str) -> None:
    found = health(kind, "127.0.0.1:1")
    assert (found.ok, found.live, found.models) == (False, False, {})
    assert "refused" in str(found.reason)


def test_text_without_a_utf8_form_is_an_invalid_request() -> None:
    with fictures.Client("127.0.0.1:1") as client, pytest.raises(fictures.InvalidRequest, match="text_input: cannot"):
        client.generate_text("\ud83d")
