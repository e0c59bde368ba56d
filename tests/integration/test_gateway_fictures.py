"""The Fictures API, as the platform calls it; and what holds for all of the gateway's answers."""

import asyncio
import base64
import io
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from conftest import START_TIMEOUT, Server, make_random_gemma, running_server, tritonserver, wait_for
from fictures.gateway import keys
from test_cancellation import assert_soon_empty
from test_image_cancellation import running, steps

PROMPT = "Once upon a time"
SMALL = {"prompt": "a boat", "width": 256, "height": 256, "num_inference_steps": 6}


def post(server: Server, path: str, body: dict[str, Any], timeout: float = 60) -> httpx.Response:
    return httpx.post(f"{server.api_url}{path}", json=body, timeout=timeout)


def events(server: Server, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with httpx.stream("POST", f"{server.api_url}{path}", json=body, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: ")]


def picture(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_text_is_streamed_as_it_is_generated_at_once(server: Server) -> None:
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    whole = post(server, "/api/v1/text/generate", body).json()
    pieces = events(server, "/api/v1/text/stream", body)
    assert sorted(whole) == ["finish_reason", "model", "text", "tokens_used"]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert [piece["done"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["tokens_used"] == whole["tokens_used"] == 24
    assert pieces[-1]["finish_reason"] == whole["finish_reason"] == "length"


def test_zero_is_a_value_and_not_the_default(server: Server) -> None:
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    greedy = {post(server, "/api/v1/text/generate", body).json()["text"] for _ in range(2)}
    assert len(greedy) == 1
    assert {post(server, "/api/v1/text/generate", body | {"top_p": 0, "temperature": 2}).json()["text"]} == greedy
    assert post(server, "/api/v1/images/generate", SMALL | {"seed": 0}).json()["seed"] == 0


@pytest.mark.parametrize(
    ("form", "value", "holds"),
    [
        ("choice", ["red", "green"], lambda answer: answer["output"] in ("red", "green")),
        ("regex", "[a-c]{3}", lambda answer: len(answer["output"]) == 3),
        (
            "json",
            {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2},
            lambda a: len(a["parsed_output"]) == 2,
        ),
        ("grammar", 'root ::= "yes" | "no"', lambda answer: answer["output"] in ("yes", "no")),
    ],
)
def test_structured_output_has_its_form(
    server: Server, form: str, value: Any, holds: Callable[[dict[str, Any]], bool]
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 100, "temperature": 0, "guided_decoding": {"type": form, form: value}}
    answer = post(server, "/api/v1/text/structured", body).json()
    assert answer["is_valid"], answer
    assert holds(answer)


def test_a_form_that_was_cut_off_is_not_valid(server: Server) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 50}
    body = {"prompt": PROMPT, "max_tokens": 5, "guided_decoding": {"type": "json", "json": schema}}
    answer = post(server, "/api/v1/text/structured", body).json()
    assert (answer["is_valid"], answer["parsed_output"], answer["finish_reason"]) == (False, None, "length")


def test_an_image_is_drawn_again_by_its_seed_and_streamed_with_previews(server: Server) -> None:
    whole = post(server, "/api/v1/images/generate", SMALL).json()
    assert sorted(whole) == ["height", "image_url", "model", "seed", "width"]
    told = events(server, "/api/v1/images/stream", SMALL | {"seed": whole["seed"], "preview_every": 3})
    assert [event["step"] for event in told] == [1, 2, 3, 4, 5, 6, 6]
    assert [bool(event.get("preview_url")) for event in told] == [False, False, True, False, False, False, False]
    assert picture(told[-1]["image_url"]).tobytes() == picture(whole["image_url"]).tobytes()


def test_models_are_listed(server: Server) -> None:
    (text,) = httpx.get(f"{server.api_url}/api/v1/text/models").json()["models"]
    assert sorted(text) == ["framework", "id", "max_tokens", "name", "status", "type"]
    (image,) = httpx.get(f"{server.api_url}/api/v1/images/models").json()["models"]
    assert sorted(image) == ["device", "framework", "id", "name", "status", "type"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/v1/text/generate", {"prompt": ""}, "prompt"),
        ("/api/v1/text/generate", {}, "prompt"),
        ("/api/v1/text/stream", {"prompt": "a", "max_tokens": 8193}, "max_tokens"),
        ("/api/v1/text/stream", {"prompt": "a", "temperature": "hot"}, "temperature"),
        ("/api/v1/text/generate", {"prompt": "a", "top_k": 3}, "top_k"),
        ("/api/v1/images/generate", {"prompt": "a", "width": 257}, "width"),
        ("/api/v1/images/stream", {"prompt": "a", "guidance_scale": 0}, "guidance_scale"),
        ("/api/v1/text/structured", {"prompt": "a", "guided_decoding": {"type": "json"}}, "guided_decoding"),
    ],
)
def test_a_wrong_field_is_named(server: Server, path: str, body: dict[str, Any], field: str) -> None:
    answer = post(server, path, body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", field]


def test_what_the_model_refuses_is_a_client_error(server: Server) -> None:
    body = {"prompt": "a", "guided_decoding": {"type": "regex", "regex": "["}}
    answer = post(server, "/api/v1/text/structured", body)
    assert answer.status_code == 400
    assert "structured_outputs" in answer.json()["detail"]


LONG = {"prompt": PROMPT, "max_tokens": 3500, "temperature": 0}  # random weights never end it
LONG_COMPLETION = {"model": "gemma", "prompt": PROMPT, "max_tokens": 3500, "ignore_eos": True}
LONG_CHAT = {
    "model": "gemma",
    "messages": [{"role": "user", "content": PROMPT}],
    "max_tokens": 3500,
    "ignore_eos": True,
}
LONG_FORM = LONG | {"guided_decoding": {"type": "regex", "regex": "[a-z ]*9{3}"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", LONG_COMPLETION),
        ("/v1/completions", LONG_COMPLETION | {"stream": True}),
        ("/v1/completions", LONG_COMPLETION | {"prompt": ["a", "b"], "stream": True}),
        ("/v1/chat/completions", LONG_CHAT),
        ("/v1/chat/completions", LONG_CHAT | {"stream": True}),
        ("/api/v1/text/structured", LONG_FORM),
    ],
)
def test_a_text_client_that_goes_away_frees_the_engine(server: Server, path: str, body: dict[str, Any]) -> None:
    leave_a_text(server, path, body)


def leave_a_text(server: Server, path: str, body: dict[str, Any]) -> None:
    began = generated(server)
    leave(server, path, body, once=lambda: generated(server) > began)
    assert_soon_empty(server)


def generated(server: Server) -> float:
    return server.metric("vllm:generation_tokens_total", model="gemma")


LONG_IMAGE = SMALL | {"num_inference_steps": 100}
LONG_GENERATION = {"model": "sdxl", "prompt": "a boat", "size": "256x256", "num_inference_steps": 100}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/images/generate", LONG_IMAGE),
        ("/api/v1/images/stream", LONG_IMAGE),
        ("/v1/images/generations", LONG_GENERATION),
        ("/v1/images/generations", LONG_GENERATION | {"stream": True, "partial_images": 1}),
    ],
)
def test_an_image_client_that_goes_away_frees_the_engine(server: Server, path: str, body: dict[str, Any]) -> None:
    wait_for(lambda: running(server) == 0, 30, "no request left of another test")
    before = steps(server)
    leave(server, path, body, once=lambda: steps(server) > before + 3)
    wait_for(lambda: running(server) == 0, 30, "the engine is empty")
    assert steps(server) - before < 95, "which would otherwise have drawn on"


def leave(server: Server, path: str, body: dict[str, Any], once: Callable[[], bool]) -> None:
    """Send a request and close the connection when `once` is true."""

    async def read() -> None:
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream("POST", f"{server.api_url}{path}", json=body) as answer,
        ):
            async for _ in answer.aiter_raw():
                pass

    async def ask() -> None:
        reading = asyncio.create_task(read())
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(once):
                assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled(), "it was under way"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/text/generate", {"prompt": "a", "max_tokens": 2}),
        ("/api/v1/text/stream", {"prompt": "a", "max_tokens": 2}),
        ("/v1/chat/completions", LONG_CHAT | {"max_tokens": 2, "stream": True}),
        ("/v1/images/generations", {"prompt": "a", "size": "256x256", "num_inference_steps": 6}),
        ("/api/v1/images/stream", SMALL),
    ],
)
def test_the_request_id_goes_to_triton_and_back(server: Server, path: str, body: dict[str, Any]) -> None:
    request_id = f"story-{uuid.uuid4().hex}"
    with verbose(server):
        answer = httpx.post(f"{server.api_url}{path}", json=body, headers={"x-request-id": request_id}, timeout=30)
    assert answer.headers["x-request-id"] == request_id
    assert f"request_id={request_id}" in (server.folder / "logs/gateway.log").read_text()
    assert f"[request id: {request_id}]" in (server.folder / "logs/tritonserver.log").read_text()


@contextmanager
def verbose(server: Server) -> Iterator[None]:
    """While Triton writes down each request that it takes."""
    for level in (1, 0):
        httpx.post(f"{server.http_url}/v2/logging", json={"log_verbose_level": level}, timeout=10).raise_for_status()
        if level:
            yield


def test_openais_text_streams_end_with_its_mark_and_no_others_do(server: Server) -> None:
    def end(path: str, body: dict[str, Any]) -> str:
        return post(server, path, body).text.strip().rpartition("\n")[2]

    text = {"model": "gemma", "prompt": "a", "max_tokens": 2, "stream": True}
    assert end("/v1/completions", text) == "data: [DONE]"
    assert end("/v1/chat/completions", LONG_CHAT | {"max_tokens": 2, "stream": True}) == "data: [DONE]"
    assert json.loads(end("/api/v1/text/stream", {"prompt": "a", "max_tokens": 2}).removeprefix("data: "))["done"]
    image = LONG_GENERATION | {"num_inference_steps": 6, "stream": True}
    assert '"image_generation.completed"' in end("/v1/images/generations", image)


def test_health_and_metrics_tell_what_is(server: Server) -> None:
    health = httpx.get(f"{server.api_url}/health", timeout=10)
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    before = gateway_metrics(server)
    post(server, "/api/v1/text/generate", {"prompt": "a", "max_tokens": 2, "temperature": 0})
    pieces = events(server, "/api/v1/text/stream", {"prompt": "a", "max_tokens": 24, "temperature": 0})
    post(server, "/api/v1/images/generate", SMALL)
    after = gateway_metrics(server)
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert moved['requests_total{endpoint="/api/v1/text/generate",status="200"}'] == 1
    assert moved["generated_tokens_total"] == 2 + pieces[-1]["tokens_used"] == 26
    assert moved["prompt_tokens_total"] >= 2
    assert moved["images_total"] == 1
    assert moved["time_to_first_token_seconds_count"] == 1
    with_tokens = len({piece["tokens_used"] for piece in pieces} - {0})  # a busy machine may send several at once
    assert moved["inter_token_latency_seconds_count"] == with_tokens - 1


def gateway_metrics(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.api_url}/metrics", timeout=10).text.splitlines()
    values = (line.rpartition(" ") for line in lines if line.startswith("fictures_gateway_"))
    return {name.removeprefix("fictures_gateway_"): float(value) for name, _, value in values}


@pytest.mark.timeout(600)
def test_without_triton_the_gateway_says_503_and_a_stop_lets_a_stream_end(tmp_path: Any) -> None:
    """One server of its own: texts are left, its Triton killed in the midst of one, back, and stopped in another."""
    endless = str(make_random_gemma())
    settings = {"SERVE": "text,gateway", "API_SHUTDOWN_TIMEOUT": "60"}
    with running_server(tmp_path, TEXT_MODEL_NAME=endless, **settings) as own:
        for path in ("/api/v1/text/generate", "/api/v1/text/stream"):
            leave_a_text(own, path, LONG)
        body = LONG
        url = f"{own.api_url}/api/v1/text/stream"
        sdk = openai.OpenAI(base_url=f"{own.api_url}/v1", api_key="none", max_retries=0)
        pieces = sdk.completions.create(model="gemma", prompt=PROMPT, max_tokens=3500, temperature=0, stream=True)
        next(pieces)
        with httpx.stream("POST", url, json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            tritonserver(own).kill()
            with pytest.raises(openai.APIError):
                list(pieces)
            last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
        assert (last["status"], last["done"]) == (503, True)
        refused = post(own, "/api/v1/text/generate", {"prompt": "a"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert httpx.get(f"{own.api_url}/health", timeout=10).status_code == 503
        assert httpx.get(f"{own.api_url}/health/live").status_code == 200
        wait_for(lambda: httpx.get(f"{own.api_url}/health", timeout=10).is_success, START_TIMEOUT, "healthy again")

        with httpx.stream("POST", url, json=body | {"max_tokens": 1200}, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            own.process.terminate()
            last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
        assert (last["tokens_used"], last["done"]) == (1200, True), "it came to its end"
        own.process.wait(60)


@pytest.mark.timeout(600)
def test_a_lazy_gateway_is_up_at_once_and_its_first_callers_wait_for_their_model(tmp_path: Any) -> None:
    """One server of its own, with keys. Nothing is loaded until somebody asks, and what cannot be had is said."""
    file = tmp_path / "keys.jsonl"
    key = {"authorization": f"Bearer {keys.create(file, 'reader')}"}
    endless = str(make_random_gemma())
    settings = {"MODEL_LOADING": "lazy", "API_KEYS_FILE": str(file), "API_SHUTDOWN_TIMEOUT": "0.5"}
    with (
        running_server(tmp_path, TEXT_MODEL_NAME=endless, **settings) as own,
        httpx.Client(base_url=own.api_url, timeout=120) as client,
    ):
        assert client.get("/health").is_success, "it can make what is asked of it"
        body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        with ThreadPoolExecutor(4) as callers:
            first = list(callers.map(lambda _: client.post("/api/v1/text/generate", json=body, headers=key), range(4)))
        assert [answer.status_code for answer in first] == [200] * 4
        assert len({answer.json()["text"] for answer in first}) == 1

        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/v1/images/generate", json=SMALL, headers=key, timeout=0.2)
        drawn = client.post("/api/v1/images/generate", json=SMALL, headers=key)
        assert drawn.is_success, "one who left while the model loads leaves it to the others"
        assert picture(drawn.json()["image_url"]).size == (256, 256)
        assert "status=499" in (own.folder / "logs/gateway.log").read_text()

        httpx.post(f"{own.http_url}/v2/repository/models/sdxl_stream/unload", timeout=60).raise_for_status()
        wait_for(lambda: client.get("/health").status_code == 503, 30, "a model that is needed is missed")
        (own.repository / "sdxl_stream/1/model.json").write_text('{"model": "/nowhere/secret", "lazy": false}')
        httpx.post(f"{own.http_url}/v2/repository/models/sdxl_stream/load", timeout=60)
        wait_for(lambda: "model.json" in client.get("/health", headers=key).text, 30, "the reason is told to a caller")
        everybody = client.get("/health").json()
        assert everybody["models"] == {"gemma": "ready", "sdxl": "unavailable", "sdxl_stream": "unavailable"}
        assert everybody["reason"] == "sdxl: unavailable", "and its words to nobody else"

        with client.stream("POST", "/api/v1/text/stream", json=LONG, headers=key) as answer:
            lines = answer.iter_lines()
            next(lines)
            own.process.terminate()
            last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
        assert (last["status"], last["done"]) == (503, True), "what outlasts API_SHUTDOWN_TIMEOUT has an end too"
