"""The gateway at its door, without any Triton: keys, limits, bounds, and what it says to requests that are wrong."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from fictures import ConfigurationError, Settings
from fictures.gateway import keys, logs
from fictures.gateway.app import create_app
from fictures.gateway.exposure import check_exposure
from fictures.settings import VARIABLES

NOWHERE = "127.0.0.1:1"
TEXT, CHAT = "/api/v1/text/generate", "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    TEXT: {"prompt": "Once"},
    "/api/v1/text/structured": {"prompt": "Once", "guided_decoding": {"type": "json", "json": {}}},
    "/api/v1/text/stream": {"prompt": "Once"},
    "/api/v1/images/generate": {"prompt": "harbour"},
    "/api/v1/images/stream": {"prompt": "harbour", "preview_every": 5},
    CHAT: {"model": "gemma", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "gemma", "prompt": "Once"},
    "/v1/images/generations": {"prompt": "harbour"},
}
"""The smallest bodies."""
LISTS = ["/api/v1/text/models", "/api/v1/images/models", "/v1/models", "/v1/models/gemma"]
POSTS = pytest.mark.parametrize("path", list(BODIES))
BOTH = pytest.mark.parametrize("path", [TEXT, CHAT])
JSON = {"content-type": "application/json"}
ORIGIN = "https://page.example"


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(VARIABLES) & set(os.environ):
        monkeypatch.delenv(name)


@pytest.fixture
def silent_triton() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@cache
def plain_app() -> FastAPI:
    """A gateway of the default settings, made once: tests leave nothing behind in it."""
    return create_app(Settings(triton_url=NOWHERE))


@asynccontextmanager
async def gateway(*, raises: bool = True, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with these settings. What the gateway raises is raised here, unless that is what it is
    asked about.
    """
    app = create_app(Settings(**{"triton_url": NOWHERE} | settings)) if settings else plain_app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch()
    return path


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def is_openai(path: str) -> bool:
    return path.startswith("/v1/")


def message(response: httpx.Response) -> str:
    """What an answer says is wrong, which has to be in the shape of its API and in no other."""
    body = response.json()
    if not is_openai(response.request.url.path):
        assert list(body) == ["detail"]
        detail = body["detail"]
        return detail if isinstance(detail, str) else "; ".join(error["msg"] for error in detail)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    told: str = body["error"]["message"]
    return told


@asynccontextmanager
async def held(client: httpx.AsyncClient, **options: Any) -> AsyncIterator[None]:
    """While a request is under way, which ends with the block."""
    task = asyncio.create_task(client.post(TEXT, json=BODIES[TEXT], **options))
    while "fictures_gateway_requests_running 2.0" not in (await client.get("/metrics")).text:
        assert not task.done()
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


# Keys


async def test_both_apis_ask_for_a_key(keys_file: Path) -> None:
    async with gateway(api_keys_file=keys_file) as client:
        for path in (*BODIES, *LISTS, "/v1/nowhere", "/api/v1/nowhere", "/api/", "/v1/"):
            for headers in ({}, bearer("fictures-wrong"), {"x-api-key": "fictures-wrong"}):
                response = await client.request("POST" if path in BODIES else "GET", path, headers=headers)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), path
                assert ("not known" if headers else "must be sent") in message(response)
                if is_openai(path):
                    assert response.json()["error"]["type"] == "authentication_error"
                    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_what_is_neither_api_asks_for_no_key(keys_file: Path) -> None:
    async with gateway(api_keys_file=keys_file) as client:
        for path in ("/health/live", "/docs", "/openapi.json", "/metrics", "/", "/page/app.js"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/health")).status_code == 503


async def test_a_key_may_come_in_either_header(keys_file: Path) -> None:
    secret = keys.create(keys_file, "ann")
    ways = [
        bearer(secret),
        {"authorization": f"bearer {secret}"},
        {"authorization": f"BEARER   {secret} "},
        {"x-api-key": secret},
        {"X-API-Key": secret, "authorization": "Basic YTpi"},
    ]
    async with gateway(api_keys_file=keys_file) as client:
        for headers in ways:
            assert (await client.get("/v1/models", headers=headers)).status_code == 503, headers


async def test_what_is_no_known_key_lets_nobody_in(keys_file: Path) -> None:
    secret = keys.create(keys_file, "ann")
    (key,) = keys.read(keys_file)
    ways: list[dict[str, str | bytes]] = [
        {"authorization": secret},
        {"authorization": f"Basic {secret}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {secret}x"},
        {"authorization": f"Bearer {secret[:-1]}"},
        {"authorization": f"Bearer {key.sha256}"},
        {"authorization": "Bearer ann"},
        {"authorization": "Bearer wrong", "x-api-key": secret},
        {"authorization": b"Bearer \xff\xfe"},
        {"x-api-key": ""},
        {"x-api-key": f"Bearer {secret}"},
        {"api-key": secret},
        {"cookie": f"authorization={secret}"},
    ]
    async with gateway(api_keys_file=keys_file) as client:
        for headers in ways:
            assert (await client.get("/v1/models", headers=headers)).status_code == 401, headers
        assert (await client.get(f"/v1/models?api_key={secret}")).status_code == 401


async def test_without_a_file_of_keys_everybody_is_let_in() -> None:
    async with gateway() as client:
        assert (await client.get("/v1/models")).status_code == 503
        assert (await client.get("/v1/models", headers=bearer("any"))).status_code == 503


async def test_keys_come_and_go_while_the_gateway_runs(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_RECHECK_SECONDS", -1.0)
    async with gateway(api_keys_file=keys_file) as client:
        headers = bearer(keys.create(keys_file, "ann"))
        assert (await client.get("/v1/models", headers=headers)).status_code == 503
        keys.revoke(keys_file, "ann")
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


@pytest.mark.parametrize("content", [None, "{"])
def test_a_gateway_does_not_start_with_keys_that_it_cannot_read(keys_file: Path, content: str | None) -> None:
    keys_file.write_text(content) if content else keys_file.unlink()
    with pytest.raises(ConfigurationError, match=str(keys_file)):
        create_app(Settings(api_keys_file=keys_file))


async def test_a_key_is_checked_before_anything_of_the_body_is(keys_file: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with gateway(api_keys_file=keys_file, api_max_body_bytes=10) as client:
        assert (await client.post(CHAT, content=body())).status_code == 401
        assert (await client.post(CHAT, content=b"x" * 11)).status_code == 401


# Who may be served at all


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_is_served_without_keys(host: str) -> None:
    check_exposure(Settings(api_host=host))


ELSEWHERE = [
    "0.0.0.0",
    "::",
    "192.168.1.5",
    "10.0.0.1",
    "2001:db8::1",
    "gpu.example",
    "localhost.example",
    "127.0.0.1x",
]


@pytest.mark.parametrize("host", [*ELSEWHERE, "", " ", "*", "0"])
def test_other_machines_are_not(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"API_KEYS_FILE.*API_ALLOW_ANONYMOUS=true"):
        check_exposure(Settings(api_host=host))


@pytest.mark.parametrize("host", ELSEWHERE)
def test_unless_there_are_keys_or_it_is_said_in_so_many_words(host: str) -> None:
    check_exposure(Settings(api_host=host, api_keys_file="keys"))
    check_exposure(Settings(api_host=host, api_allow_anonymous=True))


# Limits


@BOTH
async def test_more_requests_within_a_minute_than_allowed_are_told_when_to_come_again(path: str) -> None:
    async with gateway(api_requests_per_minute=2) as client:
        statuses = [(await client.post(path, json=BODIES[path])).status_code for _ in range(2)]
        refusal = await client.post(path, json=BODIES[path])
        assert (statuses, refusal.status_code) == ([503, 503], 429)
        assert 1 <= int(refusal.headers["retry-after"]) <= 60
        assert "2 requests came within a minute" in message(refusal)
        if is_openai(path):
            assert refusal.json()["error"]["type"] == "rate_limit_error"
            assert refusal.json()["error"]["code"] == "rate_limit_exceeded"


@BOTH
async def test_more_requests_at_a_time_than_allowed_are_told_when_to_come_again(path: str, silent_triton: str) -> None:
    async with gateway(triton_url=silent_triton, api_max_concurrent=1) as client:
        async with held(client):
            refusal = await client.post(path, json=BODIES[path])
        assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "1")
        assert "1 requests run already" in message(refusal)
        assert (await client.post(path, json={})).status_code in (400, 422)


async def test_keys_do_not_share_their_limits(keys_file: Path, silent_triton: str) -> None:
    ann, bob = (bearer(keys.create(keys_file, name)) for name in ("ann", "bob"))
    limits = {"api_max_concurrent": 1, "api_requests_per_minute": 2}
    async with (
        gateway(triton_url=silent_triton, api_keys_file=keys_file, **limits) as client,
        held(client, headers=ann),
    ):
        statuses = [(await client.post(TEXT, json={}, headers=headers)).status_code for headers in (ann, bob, bob, bob)]
    assert statuses == [429, 422, 422, 429]


async def test_a_keys_own_limits_win_over_the_settings(keys_file: Path) -> None:
    less = bearer(keys.create(keys_file, "less", requests_per_minute=1))
    more = bearer(keys.create(keys_file, "more", requests_per_minute=3))
    async with gateway(api_keys_file=keys_file, api_requests_per_minute=2) as client:
        for headers, statuses in ((less, [422, 429, 429, 429]), (more, [422, 422, 422, 429])):
            assert [(await client.post(TEXT, json={}, headers=headers)).status_code for _ in range(4)] == statuses


async def test_a_keys_own_number_at_a_time_wins_over_the_settings(keys_file: Path, silent_triton: str) -> None:
    headers = bearer(keys.create(keys_file, "ann", max_concurrent=2))
    settings = {"triton_url": silent_triton, "api_keys_file": keys_file, "api_max_concurrent": 1}
    async with gateway(**settings) as client, held(client, headers=headers):
        assert (await client.post(TEXT, json={}, headers=headers)).status_code == 422


async def test_each_request_that_ends_makes_room_however_it_ends(keys_file: Path) -> None:
    headers = bearer(keys.create(keys_file, "ann", max_concurrent=1))
    async with gateway(api_keys_file=keys_file, api_max_body_bytes=100, raises=False) as client:
        for path in (TEXT, CHAT, "/v1/nowhere"):
            for content in (b"", b"{", json.dumps(BODIES[TEXT]).encode(), b"x" * 101):
                for _ in range(2):
                    response = await client.post(path, content=content, headers={**JSON, **headers})
                    assert response.status_code not in (429, 500)


async def test_who_is_let_in_unasked_is_not_counted(keys_file: Path) -> None:
    keys.create(keys_file, "ann")
    async with gateway(api_keys_file=keys_file, api_requests_per_minute=1) as client:
        assert {(await client.get("/health/live")).status_code for _ in range(5)} == {200}
        assert {(await client.get("/v1/models")).status_code for _ in range(5)} == {401}


# Bodies


async def test_a_body_that_is_too_large_is_refused_however_it_is_sent() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 50

    async with gateway(api_max_body_bytes=100) as client:
        for path in BODIES:
            for content in (b"x" * 101, chunks()):
                response = await client.post(path, content=content, headers=JSON)
                assert response.status_code == 413, path
                assert message(response) == "the request's body is larger than 100 bytes"


@BOTH
async def test_a_body_of_just_the_size_is_taken(path: str) -> None:
    body = json.dumps(BODIES[path]).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:10]
        yield body[10:]

    async with gateway(api_max_body_bytes=len(body)) as client:
        for content in (body, chunks()):
            assert (await client.post(path, content=content, headers=JSON)).status_code == 503


@pytest.mark.parametrize("content", [b"{", b'{"a": }', b"'", b"\xff\xfe\x00", b"\x00", b"{}{}", b"[" * 100_000, b"nul"])
@POSTS
async def test_a_body_that_is_no_json_is_refused(path: str, content: bytes) -> None:
    async with gateway() as client:
        response = await client.post(path, content=content, headers=JSON)
        assert response.status_code in ((400,) if is_openai(path) else (400, 422))
        assert message(response)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"5", b'"text"', b"NaN", b"true"])
@POSTS
async def test_a_body_that_is_no_object_is_refused(path: str, content: bytes) -> None:
    async with gateway() as client:
        response = await client.post(path, content=content, headers=JSON)
        assert response.status_code == (400 if is_openai(path) else 422)
        assert message(response)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "x"],
)
@POSTS
async def test_a_body_that_does_not_say_it_is_json_is_refused(path: str, kind: str) -> None:
    async with gateway() as client:
        response = await client.post(path, content=json.dumps(BODIES[path]), headers={"content-type": kind})
        assert response.status_code == (400 if is_openai(path) else 422)
        assert message(response)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json"])
async def test_json_may_be_said_in_other_words(kind: str) -> None:
    async with gateway() as client:
        response = await client.post(TEXT, content=json.dumps(BODIES[TEXT]), headers={"content-type": kind})
        assert response.status_code == 503


# What is wrong with a request, and where


@pytest.mark.parametrize(
    ("path", "fields", "place"),
    [
        (TEXT, {"temperature": 3}, ["body", "temperature"]),
        (TEXT, {"prompt": ""}, ["body", "prompt"]),
        (TEXT, {"stop_sequences": ["a", 5]}, ["body", "stop_sequences", 1]),
        (TEXT, {"n": 2}, ["body", "n"]),
        ("/api/v1/text/structured", {"guided_decoding": {"type": "json"}}, ["body", "guided_decoding"]),
        ("/api/v1/text/structured", {"guided_decoding": {"type": "x"}}, ["body", "guided_decoding", "type"]),
        ("/api/v1/images/generate", {"width": 300}, ["body", "width"]),
        ("/api/v1/images/generate", {"preview_every": 5}, ["body", "preview_every"]),
        ("/api/v1/images/stream", {"preview_every": "5"}, ["body", "preview_every"]),
    ],
)
async def test_422_says_which_fields_are_wrong(path: str, fields: dict[str, Any], place: list[Any]) -> None:
    async with gateway() as client:
        response = await client.post(path, json=BODIES[path] | fields)
    assert response.status_code == 422
    (error,) = response.json()["detail"]
    assert set(error) == {"type", "loc", "msg", "input"}
    assert error["loc"] == place
    assert error["msg"]


async def test_422_tells_of_all_that_is_wrong_and_shows_no_more_than_a_glimpse_of_it() -> None:
    async with gateway() as client:
        response = await client.post(TEXT, json={"temperature": 3, "top_p": "1", "x": ["y" * 10_000]})
    errors = {error["loc"][1]: error for error in response.json()["detail"]}
    assert set(errors) == {"prompt", "temperature", "top_p", "x"}
    assert (errors["temperature"]["input"], errors["top_p"]["input"]) == ("3", "'1'")
    assert len(response.content) < 2000


def part(**image_url: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": image_url}]
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("path", "fields", "place"),
    [
        (CHAT, {"temperature": 3}, "temperature"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "4"}]}, "messages.1.role"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        (CHAT, {"tools": [{}]}, "tools"),
        (CHAT, {"temperatur": 1}, "temperatur"),
        (CHAT, {"stop": ["a", ""]}, "stop.1"),
        (CHAT, {"logit_bias": {"17": "x"}}, "logit_bias.17"),
        (CHAT, {"response_format": {"type": "url"}}, "response_format.type"),
        (CHAT, {"model": ""}, "model"),
        ("/v1/completions", {"best_of": 3}, "best_of"),
        ("/v1/completions", {"prompt": [1, 2]}, "prompt"),
        ("/v1/completions", {"suffix": "x"}, "suffix"),
        ("/v1/images/generations", {"response_format": "url"}, "response_format"),
        ("/v1/images/generations", {"size": "1x1"}, "size"),
        (CHAT, {"Temperature": 1}, "Temperature"),
        (CHAT, {"int": 1}, "int"),
        (CHAT, {"stop": 5}, "stop"),
        ("/v1/completions", {"prompt": 5}, "prompt"),
        (CHAT, part(url="http://x/y.png"), "messages.0.content.1.image_url.url"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages.0.content"),
        (CHAT, {"stop": {}}, "stop"),
        ("/v1/completions", {"prompt": {}}, "prompt"),
        (CHAT, {"messages": [{"role": "user", "content": {}}]}, "messages.0.content"),
    ],
)
async def test_openais_400_names_the_parameter(path: str, fields: dict[str, Any], place: str) -> None:
    async with gateway() as client:
        response = await client.post(path, json=BODIES[path] | fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", place)
    assert message(response).startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stream_options": {}}, "stream_options: "),
        ({"top_logprobs": 3}, "top_logprobs: "),
        ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "response_format: "),
    ],
)
async def test_openais_400_names_the_parameter_that_does_not_go_with_the_others(
    fields: dict[str, Any], words: str
) -> None:
    async with gateway() as client:
        response = await client.post(CHAT, json=BODIES[CHAT] | fields)
    assert response.status_code == 400
    assert message(response).startswith(words)


async def test_what_is_not_supported_has_a_code_of_its_own() -> None:
    async with gateway() as client:
        response = await client.post(CHAT, json=BODIES[CHAT] | {"audio": {}})
    assert response.json()["error"] == {
        "message": "audio: not supported",
        "type": "invalid_request_error",
        "param": "audio",
        "code": "unsupported_parameter",
    }


async def test_of_a_union_the_branch_that_was_meant_is_told_of() -> None:
    async with gateway() as client:
        response = await client.post(CHAT, json=BODIES[CHAT] | part(url=5))
    assert "valid string" in message(response)
    assert response.json()["error"]["param"].endswith("url")


async def test_what_is_no_json_has_no_parameter() -> None:
    async with gateway() as client:
        response = await client.post(CHAT, content=b"{]", headers=JSON)
    assert response.json()["error"]["param"] is None


async def test_a_value_that_cannot_be_sent_to_triton_is_400_in_both_apis() -> None:
    body = '{"prompt": "Once", "guided_decoding": {"type": "json", "json": {"maximum": NaN}}}'
    async with gateway() as client:
        response = await client.post("/api/v1/text/structured", content=body, headers=JSON)
    assert response.status_code == 400
    assert message(response).startswith("structured_outputs: cannot be written as JSON")


# Nothing that can be sent does harm


NASTY = [
    *("NaN", "-Infinity", "1e999", "9" * 4000, "9" * 5000, "9223372036854775808", "-0.0", "true", "null", '""'),
    *('"\\ud800"', '"\\u0000\\u001b[2J\\u007f"', '"' + "x" * 9999 + '"', "[]", "{}", "[null]", '{"": null}'),
    *('{"\\ud800": 1}', '{"type": []}', '{"type": "json", "json": NaN}', "[" * 500 + "]" * 500, '{"a":' * 900 + "1"),
]
"""As JSON, or what Python takes for it."""
FIELDS = {
    "/api/v1/text/structured": ["max_tokens", "temperature", "stop_sequences", "guided_decoding"],
    "/api/v1/images/stream": ["negative_prompt", "width", "guidance_scale", "seed", "preview_every"],
    CHAT: ["model", "messages", "temperature", "seed", "stop", "logit_bias", "response_format", "tools"],
    "/v1/completions": ["model", "stop", "structured_outputs", "stop_token_ids", "stream_options"],
    "/v1/images/generations": ["model", "size", "guidance_scale", "scheduler"],
}


@pytest.mark.parametrize("path", list(FIELDS))
async def test_no_value_is_more_than_refused(path: str) -> None:
    async with gateway(raises=False) as client:
        for field in ("prompt", *FIELDS[path], "unknown", "\\ud800", ""):
            for value in NASTY:
                values = {name: json.dumps(given) for name, given in BODIES[path].items()} | {field: value}
                body = "{" + ", ".join(f'"{name}": {written}' for name, written in values.items()) + "}"
                response = await client.post(path, content=body, headers=JSON)
                assert response.status_code in (400, 422, 503), body[:200]
                assert message(response), body[:200]


@BOTH
async def test_a_body_that_is_as_deep_as_can_be_read_is_no_more_than_refused(path: str) -> None:
    async with gateway(raises=False) as client:
        for depth in range(900, 1000):
            body = json.dumps(BODIES[path])[:-1] + ', "unknown": ' + "[" * depth + "]" * depth + "}"
            assert (await client.post(path, content=body, headers=JSON)).status_code in (400, 422), depth


@pytest.mark.parametrize("path", ["/v1/models/%ff", "/v1/models/%00", "/v1/models/..%2f..", "/v1/models/" + "x" * 9000])
async def test_no_path_is_more_than_refused(path: str) -> None:
    async with gateway(raises=False) as client:
        assert (await client.get(path)).status_code in (404, 503)


# What is not there


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


# A Triton that does not answer


@pytest.mark.parametrize("stream", [False, True])
@POSTS
async def test_no_triton_is_503_and_says_when_to_come_again(path: str, stream: bool) -> None:
    body = BODIES[path] | ({"stream": stream} if is_openai(path) else {})
    async with gateway() as client:
        response = await client.post(path, json=body)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "onnect" in message(response)
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


# Browsers


def preflight(origin: str, headers: str = "authorization,content-type") -> dict[str, str]:
    return {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": headers}


async def test_no_page_of_another_origin_may_call_unless_it_is_configured() -> None:
    async with gateway() as client:
        assert (await client.options(CHAT, headers=preflight(ORIGIN))).status_code == 400
        response = await client.get("/health/live", headers={"origin": ORIGIN})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


async def test_a_page_of_a_configured_origin_may_call_and_read_what_it_needs(keys_file: Path) -> None:
    async with gateway(cors_origins=f"{ORIGIN}, http://other.example", api_keys_file=keys_file) as client:
        for origin in (ORIGIN, "http://other.example"):
            allowed = await client.options(CHAT, headers=preflight(origin, "authorization,content-type,x-api-key"))
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == origin
            refusal = await client.post(CHAT, headers={"origin": origin})
            assert refusal.status_code == 401
            assert refusal.headers["access-control-allow-origin"] == origin
            assert "x-request-id" in refusal.headers["access-control-expose-headers"]
        for origin in ("https://page.example.evil", "http://page.example", "null"):
            assert (await client.options(CHAT, headers=preflight(origin))).status_code == 400
            refusal = await client.post(CHAT, headers={"origin": origin})
            assert "access-control-allow-origin" not in refusal.headers


async def test_a_star_lets_any_page_call_and_never_with_cookies() -> None:
    async with gateway(cors_origins="*") as client:
        response = await client.options(CHAT, headers=preflight(ORIGIN))
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in response.headers


async def test_openais_sdk_may_call_from_a_page_of_a_configured_origin() -> None:
    headers = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-retry-count"
    async with gateway(cors_origins=ORIGIN) as client:
        assert (await client.options(CHAT, headers=preflight(ORIGIN, headers))).status_code == 200


# Request ids


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


# What the gateway tells of itself


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
