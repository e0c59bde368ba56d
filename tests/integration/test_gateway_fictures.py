"""The Fictures API, as the platform calls it; and what holds for all of the gateway's answers."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from conftest import Server, running_server, tritonserver, wait_for
from test_cancellation import assert_empty_after_a_second
from test_image_cancellation import FREE_WITHIN, running

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
    body = {"prompt": PROMPT, "max_tokens": 100, "guided_decoding": {"type": form, form: value}}
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


LONG = {"prompt": PROMPT, "max_tokens": 3500}
LONG_COMPLETION = {"model": "gemma", "prompt": PROMPT, "max_tokens": 3500, "ignore_eos": True}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/text/generate", LONG),
        ("/api/v1/text/stream", LONG),
        ("/v1/completions", LONG_COMPLETION),
        ("/v1/completions", LONG_COMPLETION | {"stream": True}),
        ("/v1/completions", LONG_COMPLETION | {"prompt": ["a", "b"], "stream": True}),
    ],
)
def test_a_text_client_that_goes_away_frees_the_engine(server: Server, path: str, body: dict[str, Any]) -> None:
    leave(server, path, body)
    assert_empty_after_a_second(server)


@pytest.mark.parametrize("path", ["/api/v1/images/generate", "/api/v1/images/stream"])
def test_an_image_client_that_goes_away_frees_the_engine(server: Server, path: str) -> None:
    wait_for(lambda: running(server) == 0, 30, "no request left of another test")
    leave(server, path, SMALL | {"num_inference_steps": 100})
    assert wait_for(lambda: running(server) == 0, 10, "the engine is empty") < FREE_WITHIN


def leave(server: Server, path: str, body: dict[str, Any]) -> None:
    """Close the connection half a second after the request."""

    async def ask() -> None:
        async with httpx.AsyncClient() as client, client.stream("POST", f"{server.api_url}{path}", json=body) as answer:
            async for _ in answer.aiter_raw():
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(ask(), 0.5))


def test_the_request_id_goes_to_triton_and_back(server: Server) -> None:
    headers = {"x-request-id": "story-4711"}
    answer = httpx.post(
        f"{server.api_url}/api/v1/text/generate", json={"prompt": "a", "max_tokens": 2}, headers=headers, timeout=30
    )
    assert answer.headers["x-request-id"] == "story-4711"
    assert "request_id=story-4711" in (server.folder / "logs/gateway.log").read_text()


def test_health_and_metrics_tell_what_is(server: Server) -> None:
    health = httpx.get(f"{server.api_url}/health", timeout=10)
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    post(server, "/api/v1/text/generate", {"prompt": "a", "max_tokens": 2})
    metrics = httpx.get(f"{server.api_url}/metrics", timeout=10).text
    assert 'fictures_gateway_requests_total{endpoint="/api/v1/text/generate",status="200"}' in metrics
    assert "fictures_gateway_generated_tokens_total" in metrics


@pytest.mark.timeout(300)
def test_without_triton_the_gateway_says_503_and_a_stop_lets_a_stream_end(tmp_path: Any) -> None:
    """One server of its own: its Triton is killed in the midst of a stream, comes back, and is stopped in another."""
    with running_server(tmp_path, API_SHUTDOWN_TIMEOUT="20") as own:
        body = {"prompt": PROMPT, "max_tokens": 3500}
        url = f"{own.api_url}/api/v1/text/stream"
        sdk = openai.OpenAI(base_url=f"{own.api_url}/v1", api_key="none", max_retries=0)
        pieces = sdk.completions.create(model="gemma", prompt=PROMPT, max_tokens=3500, stream=True)
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
        wait_for(lambda: httpx.get(f"{own.api_url}/health", timeout=10).is_success, 90, "healthy again")

        with httpx.stream("POST", url, json=body | {"max_tokens": 1200}, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            own.process.terminate()
            last = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
        assert (last["tokens_used"], last["done"]) == (1200, True), "it came to its end"
        own.process.wait(60)
