"""What the gateway answers without any Triton: what is not there, request ids, defects, and what it tells of itself."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from gateway_app import (
    BODIES,
    BOTH,
    CHAT,
    LISTS,
    NOWHERE,
    ORIGIN,
    POSTS,
    TEXT,
    _no_settings_in_the_environment,
    bearer,
    gateway,
    is_openai,
    keys_file,
    message,
    silent_triton,
)

from fictures import Settings
from fictures.errors import FicturesError, ServerError, Unavailable
from fictures.gateway import keys, logs
from fictures.gateway.app import create_app
from fictures.gateway.backend import Backend
from fictures.gateway.catalog import Catalog
from fictures.translation.answers import TextAnswer, TextPiece

__all__ = ["_no_settings_in_the_environment", "keys_file", "silent_triton"]
"""Fixtures of this file's tests."""


# # What is not there


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/api/v1/text", "/v1", "/page/nowhere.js", "/v1/nowhere"])
async def test_an_unknown_path_is_404_in_the_shape_of_its_api(path: str) -> None:
    async with gateway() as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert message(response) == "Not Found"
    if is_openai(path):
        assert response.json()["error"]["code"] == "not_found"


@POSTS
async def test_another_method_is_405_and_says_which_there_is(path: str) -> None:
    async with gateway() as client:
        response = await client.get(path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert message(response) == "Method Not Allowed"


# # A Triton that does not answer


@pytest.mark.parametrize("stream", [False, True])
@POSTS
async def test_no_triton_is_503_and_says_when_to_come_again(path: str, stream: bool) -> None:
    body = BODIES[path] | ({"stream": stream} if is_openai(path) else {})
    async with gateway() as client:
        response = await client.post(path, json=body)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert message(response) == "Triton cannot be reached", "and not where it is"
    if is_openai(path):
        assert response.json()["error"]["type"] == "server_error"
        assert response.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("path", LISTS)
async def test_without_triton_there_is_no_list_of_models(path: str) -> None:
    async with gateway() as client:
        response = await client.get(path)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert message(response)


async def test_without_triton_the_gateway_is_alive_and_not_healthy() -> None:
    async with gateway() as client:
        assert (await client.get("/health/live")).json() == {"status": "alive"}
        health = await client.get("/health")
    assert health.status_code == 503
    assert health.json()["status"] == "unhealthy"
    assert "onnect" in health.json()["reason"]


async def test_a_triton_that_does_not_answer_in_time_is_504(silent_triton: str) -> None:
    async with gateway(triton_url=silent_triton, api_request_timeout=0.2) as client:
        paths = [*BODIES, *LISTS]
        calls = [client.post(path, json=BODIES[path]) if path in BODIES else client.get(path) for path in paths]
        responses = await asyncio.gather(*calls)
    assert [response.status_code for response in responses] == [504] * len(paths)
    assert all(message(response) for response in responses)
    assert {response.json()["error"]["code"] for response in responses if is_openai(response.url.path)} == {"timeout"}


async def test_a_request_that_ran_out_of_time_makes_room(silent_triton: str) -> None:
    async with gateway(triton_url=silent_triton, api_request_timeout=0.1, api_max_concurrent=1) as client:
        assert [(await client.post(path, json=BODIES[path])).status_code for path in (TEXT, CHAT, TEXT)] == [504] * 3


FAILURES = [(502, ServerError("model 'sdxl': cannot read /srv/secret")), (503, Unavailable("cannot read /srv/secret"))]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [TEXT, "/api/v1/text/stream", CHAT])
@pytest.mark.parametrize(("status", "failure"), FAILURES)
async def test_the_servers_own_words_are_for_those_who_may_know_them(
    path: str, stream: bool, status: int, failure: FicturesError, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an answer and, once a stream has begun, in it."""

    async def text(*_: Any) -> TextAnswer:
        raise failure

    async def stream_text(*_: Any) -> AsyncGenerator[TextAnswer]:
        if stream:
            yield TextAnswer((TextPiece(0, "Once", None, 1),), 1)
        raise failure

    async def check(*_: Any) -> None: ...

    monkeypatch.setattr(Backend, "text", text)
    monkeypatch.setattr(Backend, "stream_text", stream_text)
    monkeypatch.setattr(Catalog, "check", check)
    body = BODIES[path] | ({"stream": stream} if is_openai(path) else {})
    key = bearer(keys.create(keys_file, "ann"))
    with structlog.testing.capture_logs() as lines:
        async with gateway(api_host="0.0.0.0", api_allow_anonymous=True) as client:
            stranger = await client.post(path, json=body)
        async with gateway(api_host="0.0.0.0", api_keys_file=keys_file) as client:
            caller = await client.post(path, json=body, headers=key)
        async with gateway() as client:
            neighbour = await client.post(path, json=body)
    assert "secret" not in stranger.text
    assert "the log says more" in stranger.text
    assert "secret" in caller.text
    assert "secret" in neighbour.text
    begun = stream and path != TEXT
    assert {answer.status_code for answer in (stranger, caller, neighbour)} == {200 if begun else status}
    assert [line["error"] for line in lines if "error" in line] == [str(failure)] * 3


# # Request ids


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "2f1e-4_A.b:c/d@e+f=", "0"])
async def test_a_usable_request_id_comes_back(sent: str) -> None:
    async with gateway() as client:
        assert (await client.get("/health/live", headers={"x-request-id": sent})).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", [None, "", " ", "a b", "a" * 129, "a,b", "<script>", b"\xff", b"a\x00b", "a;b", '"'])
async def test_any_other_is_made_anew(sent: str | bytes | None) -> None:
    headers: dict[str, Any] = {} if sent is None else {"x-request-id": sent}
    async with gateway() as client:
        made = {(await client.get("/health/live", headers=headers)).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert all(len(each) == 32 and each.isalnum() for each in made)


async def test_refusals_have_an_id_too(keys_file: Path) -> None:
    headers = {"x-request-id": "abc", **bearer(keys.create(keys_file, "ann"))}
    async with gateway(api_keys_file=keys_file, api_max_body_bytes=100, cors_origins=ORIGIN) as client:
        responses = [
            await client.post(CHAT, headers={"x-request-id": "abc"}),
            await client.post(CHAT, headers=headers),
            await client.post(TEXT, headers=headers, json={}),
            await client.post(TEXT, headers=headers, json=BODIES[TEXT]),
            await client.post(TEXT, headers=headers, content=b"x" * 101),
            await client.get("/nowhere", headers=headers),
        ]
    assert [response.status_code for response in responses] == [401, 400, 422, 503, 413, 404]
    assert {response.headers["x-request-id"] for response in responses} == {"abc"}


@asynccontextmanager
async def broken_gateway(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that has a defect: its connection to Triton was never made."""
    transport = httpx.ASGITransport(create_app(Settings(triton_url=NOWHERE, **settings)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


@BOTH
async def test_a_defect_is_500_in_the_answer_and_a_traceback_in_the_log(path: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with broken_gateway() as client:
            response = await client.post(path, json=BODIES[path], headers={"x-request-id": "abc"})
    assert response.status_code == 500
    assert message(response) == "the gateway failed; its log says more"
    assert response.headers["x-request-id"] == "abc"
    assert [line["event"] for line in lines if line.get("exc_info")] == ["the gateway failed"]


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    before = root.handlers, root.level, access.disabled
    yield
    root.handlers, root.level, access.disabled = before
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "log_format",
    [
        "text",
        "json",
    ],
)
@pytest.mark.usefixtures("_own_logging")
def test_a_traceback_in_the_log_holds_no_values(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", log_format)
    headers = {"authorization": "Bearer fictures" + "-secret"}
    try:
        headers["nothing"]
    except KeyError:
        structlog.get_logger("test").exception("failed", request_id="abc")
    told = capsys.readouterr().err
    assert "abc" in told
    assert "KeyError" in told
    assert "fictures-secret" not in told


# # What the gateway tells of itself


async def test_metrics_count_requests_by_endpoint_and_status_and_not_by_what_was_typed() -> None:
    async with gateway(api_max_body_bytes=1000) as client:
        for path, body in BODIES.items():
            await client.post(path, json=body)
        await client.post(TEXT, json={})
        for number in range(3):
            await client.get(f"/v1/models/{number}")
            await client.get(f"/v1/nowhere/{number}")
        lines = (await client.get("/metrics")).text.splitlines()
    assert {line for line in lines if line.startswith("fictures_gateway_requests_total{")} == {
        *(f'fictures_gateway_requests_total{{endpoint="{path}",status="503"}} 1.0' for path in BODIES),
        f'fictures_gateway_requests_total{{endpoint="{TEXT}",status="422"}} 1.0',
        'fictures_gateway_requests_total{endpoint="/v1/models/{model}",status="503"} 3.0',
        'fictures_gateway_requests_total{endpoint="unknown",status="404"} 3.0',
    }
    assert "fictures_gateway_requests_running 1.0" in lines


async def test_the_openapi_document_lists_every_endpoint_and_its_errors() -> None:
    async with gateway() as client:
        document = (await client.get("/openapi.json")).json()
    for path in BODIES:
        assert {"400", "401", "413", "429", "503", "504"} <= set(document["paths"][path]["post"]["responses"])


async def test_every_operation_of_the_openapi_document_has_an_example() -> None:
    async with gateway() as client:
        document = (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shown = operation.get("requestBody") or operation["responses"]["200"]
            assert all("example" in kind or kind["examples"] for kind in shown["content"].values()), (method, path)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
        part = list(part.values())
    for each in part if isinstance(part, list) else []:
        yield from references(each)


async def test_the_openapi_document_has_all_that_it_refers_to() -> None:
    async with gateway() as client:
        document = (await client.get("/openapi.json")).json()
    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names - set(document["components"]["schemas"]) == set()


async def test_a_path_cannot_give_orders_to_the_terminal_that_shows_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        async with gateway() as client:
            await client.get("/%1b[31mred")
    assert lines[-1]["path"] == "/\\x1b[31mred"
