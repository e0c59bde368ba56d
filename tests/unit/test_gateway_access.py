"""The gateway at its door, without any Triton: keys, who may be served at all, limits, and pages of other origins."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_app import (
    BODIES,
    BOTH,
    CHAT,
    JSON,
    LISTS,
    ORIGIN,
    TEXT,
    _no_settings_in_the_environment,
    bearer,
    gateway,
    is_openai,
    keys_file,
    message,
    silent_triton,
)
from openapi_spec_validator import validate
from typer.testing import CliRunner

from fictures import ConfigurationError, Settings, cli
from fictures.gateway import keys, server
from fictures.gateway.app import create_app
from fictures.gateway.exposure import check_exposure

__all__ = ["_no_settings_in_the_environment", "keys_file", "silent_triton"]
"""Fixtures of this file's tests."""


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


# # Keys


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


async def test_the_document_says_how_to_send_a_key_where_one_is_needed(keys_file: Path) -> None:
    secret = keys.create(keys_file, "ann")
    async with gateway(api_keys_file=keys_file) as client:
        document = (await client.get("/openapi.json")).json()
        ways = document["components"]["securitySchemes"]
        sent = {"bearer": bearer(secret), "x-api-key": {ways["x-api-key"]["name"]: secret}}
        for name, headers in sent.items():
            assert (await client.get("/v1/models", headers=headers)).status_code == 503, name
    assert ways["bearer"] == {"type": "http", "scheme": "bearer"}
    assert ways.keys() == sent.keys()
    validate(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            needs = [{name: []} for name in sent] if path.startswith(("/api/", "/v1/")) else None
            assert operation.get("security") == needs, path


async def test_and_says_nothing_of_keys_where_none_is() -> None:
    async with gateway() as client:
        assert "securit" not in (await client.get("/openapi.json")).text


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


# # Who may be served at all


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


# # Limits


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


# # Browsers


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


# # Which Triton


@pytest.mark.parametrize(("options", "urls"), [([], ("text:1", "images:1")), (["--url", "all:1"], ("all:1", "all:1"))])
def test_the_option_url_stands_for_both_tritons(
    options: list[str], urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(server, "serve", served.append)
    variables = {"TRITON_URL": "text:1", "TRITON_IMAGE_URL": "images:1"}
    assert CliRunner().invoke(cli.app, ["gateway", *options], env=variables).exit_code == 0
    assert [(settings.grpc_url, settings.image_grpc_url) for settings in served] == [urls]
