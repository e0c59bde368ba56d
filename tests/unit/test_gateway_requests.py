"""Bodies that come to the gateway, without any Triton: their bounds, and what it says to those that are wrong."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from gateway_app import (
    BODIES,
    BOTH,
    CHAT,
    JSON,
    POSTS,
    TEXT,
    _no_settings_in_the_environment,
    gateway,
    is_openai,
    message,
)

from fictures.gateway.errors import MOST_ERRORS, MOST_SHOWN

__all__ = ["_no_settings_in_the_environment"]
"""Fixtures of this file's tests."""


# # Bodies


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


# # What is wrong with a request, and where


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


MANY = {str(number): "x" for number in range(5000)}
LIST = ["", 5, {}] * 2000


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


def message_of(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        *((path, MANY) for path in BODIES),
        ("/api/v1/text/structured", {"guided_decoding": MANY}),
        ("/api/v1/text/structured", {"guided_decoding": {"type": "choice", "choice": LIST}}),
        (TEXT, {"stop_sequences": LIST}),
        ("/v1/completions", {"prompt": LIST}),
        *((CHAT, {name: LIST}) for name in ("stop", "stop_token_ids", "bad_words", "messages", "logit_bias", "tools")),
        *((CHAT, {name: MANY}) for name in ("stream_options", "logit_bias", "response_format", "stop", "messages")),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": MANY}}),
        (CHAT, {"messages": [BODIES[CHAT]["messages"][0] | MANY]}),
        (CHAT, {"messages": [MANY] * 20}),
        (CHAT, message_of(MANY)),
        (CHAT, message_of(LIST)),
        (CHAT, message_of([{"type": "text", "text": "Hi"} | MANY])),
        (CHAT, message_of([{"type": "image_url"} | MANY] * 20)),
        (CHAT, part(**MANY)),
    ],
)
async def test_thousands_of_mistakes_are_few_errors_and_a_short_answer(
    path: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    whole = RequestValidationError.errors
    monkeypatch.setattr(RequestValidationError, "errors", lambda self: found.append(whole(self)) or found[-1])
    async with gateway() as client:
        response = await client.post(path, json=BODIES[path] | fields)
    assert response.status_code == (400 if is_openai(path) else 422)
    assert len(found[0]) < 10
    assert len(response.content) < 2000


async def test_of_many_mistakes_as_many_are_told_as_can_be_read() -> None:
    async with gateway() as client:
        response = await client.post(TEXT, json=BODIES[TEXT] | dict.fromkeys(map(str, range(90)), 1))
    assert len(response.json()["detail"]) == MOST_ERRORS


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({str(number): number for number in range(9, 0, -1)}, "{'5': 5, '6': 6, '7': 7, '8': 8, ...}"),
        ([1] * 9, "[1, 1, 1, 1, 1, 1, ...]"),
        ([[[1]]], "[[[...]]]"),
        ({"a": [{}]}, "{'a': [{}]}"),
        ("x" * 500, "'" + "x" * 500),
    ],
)
async def test_a_wrong_value_is_shown_by_its_beginning(value: Any, shown: str) -> None:
    async with gateway() as client:
        response = await client.post(TEXT, json={"prompt": value, "max_tokens": value})
    for error in response.json()["detail"]:
        assert len(error["input"]) <= MOST_SHOWN + 1
        assert error["input"][:90] == shown[:90]


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


# # Nothing that can be sent does harm


NASTY = [
    *("NaN", "-Infinity", "1e999", "9" * 4000, "9" * 5000, "9223372036854775808", "-0.0", "true", "null", '""'),
    *('"\\ud800"', '"\\u0000\\u001b[2J\\u007f"', '"' + "x" * 9999 + '"', "[]", "{}", "[null]", '{"": null}'),
    *('{"\\ud800": 1}', '{"type": []}', '{"type": "json", "json": NaN}', "[" * 500 + "]" * 500, '{"a":' * 900 + "1"),
]
"""As JSON, or what Python takes for it."""
FIELDS = {
    "/api/v1/text/structured": ["max_tokens", "temperature", "guided_decoding"],
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
