"""How answers travel: bodies that do not come, clients that take nothing, models asked about once for all."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Send

from fictures import AsyncClient, Settings
from fictures.errors import ConfigurationError, InvalidRequest, ModelNotFound, ServerUnreachable
from fictures.gateway import catalog as catalog_module
from fictures.gateway import endpoints, middleware, serving, writing
from fictures.gateway.access import Access
from fictures.gateway.app import create_app
from fictures.gateway.backend import Backend
from fictures.gateway.catalog import Catalog
from fictures.gateway.endpoints import ENDPOINTS, Event
from fictures.gateway.health import HealthCheck, HealthReport
from fictures.gateway.server import serve
from fictures.translation import answers
from fictures.translation.answers import ImageEvent, ImageFile, ImageStep
from fictures.translation.calls import ImageCall, TextCall
from fictures.types import ModelInfo, TensorInfo
from launcher import preflight

NOWHERE = "127.0.0.1:1"
STREAM = "/api/v1/text/stream"


def test_every_route_takes_the_body_of_its_endpoint() -> None:
    described = create_app(Settings(triton_url=NOWHERE)).openapi()["paths"]
    bodies = {path: methods["post"]["requestBody"] for path, methods in described.items() if "post" in methods}
    assert bodies.keys() == ENDPOINTS.keys()
    for path, (body, _) in ENDPOINTS.items():
        schema = bodies[path]["content"]["application/json"]["schema"]["$ref"]
        assert schema.rpartition("/")[2] == body.__name__
        refused = described[path]["post"]["responses"]["400"]["content"]
        assert list(refused) == ["application/json"], "of streams, too"


@pytest.mark.parametrize("seconds", ["BODY_SECONDS", "WHOLE_BODY_SECONDS"])
async def test_a_body_that_does_not_come_is_408(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, seconds, 0.1)

    async def stalled() -> AsyncIterator[bytes]:
        while seconds == "WHOLE_BODY_SECONDS":  # as slowly as a single piece may be
            yield b" "
            await asyncio.sleep(0.02)
        yield b'{"prompt": '
        await asyncio.sleep(30)

    transport = httpx.ASGITransport(create_app(Settings(triton_url=NOWHERE)))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post(STREAM, content=stalled(), headers={"content-type": "application/json"})
    assert answer.status_code == 408
    assert answer.json()["detail"].startswith("the body did not come in time: ")


async def post(app: FastAPI, path: str, send: Send, gone: asyncio.Event) -> None:
    """Sends a request, from a client that closes its connection when it has `gone`."""
    body = [{"type": "http.request", "body": b'{"prompt": "Once"}'}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app(scope | {"headers": headers}, receive, send)


async def post_and_stop_reading(app: FastAPI, path: str, *, after: int = 0, leaves: bool = False) -> None:
    """Sends a request, and takes but so many pieces of its answer: waits for ever then, or closes the connection."""
    gone, never = asyncio.Event(), asyncio.Event()
    taken = 0

    async def send(message: Message) -> None:
        nonlocal taken
        if message["type"] != "http.response.body":
            return
        taken += 1
        if taken > after and not leaves:
            await never.wait()
        if taken >= after and leaves:
            gone.set()

    async with app.router.lifespan_context(app), asyncio.timeout(10):
        await post(app, path, send, gone)
    assert f'requests_total{{endpoint="{path}",status="499"}} 1.0' in app.state.metrics.text().decode()


async def test_a_client_that_takes_nothing_of_its_stream_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.1)
    closed = asyncio.Event()

    async def endless(*_: Any) -> AsyncGenerator[Event]:
        try:
            while True:
                yield Event({"text": "a"})
        finally:
            closed.set()

    monkeypatch.setattr(endpoints.Text, "events", endless)
    await post_and_stop_reading(create_app(Settings(triton_url=NOWHERE)), STREAM)
    assert closed.is_set(), "the engine is free"


async def test_a_silent_stream_says_something_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PING_SECONDS", 0.05)

    async def slow(*_: Any) -> AsyncGenerator[Event]:
        for text in ("a", "b"):
            yield Event({"text": text})
            await asyncio.sleep(0.2)

    monkeypatch.setattr(endpoints.Text, "events", slow)
    transport = httpx.ASGITransport(app := create_app(Settings(triton_url=NOWHERE)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x") as client,
    ):
        answer = await client.post(STREAM, json={"prompt": "Once"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    events = answer.text.split("\n\n")
    told = [event for event in events if not event.startswith(":")]
    assert told == ['data: {"text": "a"}', 'data: {"text": "b"}', ""]
    comments = [event for event in events if event.startswith(":")]
    assert 4 <= len(comments) <= 8
    assert set(comments) == {": ping"}
    assert events[1] == ": ping", "between the events"


@pytest.mark.parametrize("leaves", [False, True], ids=["takes no comments", "leaves"])
async def test_a_silent_stream_ends_with_its_client(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PING_SECONDS", 0.05)
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.1)
    closed = asyncio.Event()

    async def silent(*_: Any) -> AsyncGenerator[Event]:
        try:
            yield Event({"text": "a"})
            await asyncio.sleep(30)
        finally:
            closed.set()

    monkeypatch.setattr(endpoints.Text, "events", silent)
    await post_and_stop_reading(create_app(Settings(triton_url=NOWHERE)), STREAM, after=1, leaves=leaves)
    assert closed.is_set(), "the engine is free"


async def test_a_client_that_leaves_as_its_answer_ends_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wake in the same turn of the event loop, first the one that sees it leave."""
    gone, faults = asyncio.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    async def one(*_: Any) -> AsyncGenerator[Event]:
        yield Event({"text": "a"})

    async def send(message: Message) -> None:
        await asyncio.sleep(0.01)  # in which it is begun to look whether the client leaves
        if message["type"] == "http.response.body" and not message["more_body"]:
            asyncio.get_running_loop().call_later(0.05, gone.set)
            await gone.wait()

    monkeypatch.setattr(endpoints.Text, "events", one)
    app = create_app(Settings(triton_url=NOWHERE))
    async with app.router.lifespan_context(app), asyncio.timeout(10):
        await post(app, STREAM, send, gone)
        await asyncio.sleep(0.05)
    assert faults == []


FILES = (ImageFile(b"\x00\x10\x83" * 10**6, 7), ImageFile(b"\xff" * (10**6 + 1), 8))


def draw(monkeypatch: pytest.MonkeyPatch, *files: ImageFile) -> None:
    """Has the gateway's Triton draw these, after one step."""

    async def images(*_: Any) -> tuple[ImageFile, ...]:
        return files

    async def stream_images(*_: Any) -> AsyncGenerator[ImageEvent]:
        yield ImageStep(1, 2, (b"preview",))
        yield files

    async def check(*_: Any) -> None: ...

    monkeypatch.setattr(Backend, "images", images)
    monkeypatch.setattr(Backend, "stream_images", stream_images)
    monkeypatch.setattr(Catalog, "check", check)


async def test_a_client_that_takes_nothing_of_its_whole_answer_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.1)
    draw(monkeypatch, FILES[0])
    await post_and_stop_reading(create_app(Settings(triton_url=NOWHERE)), "/api/v1/images/generate")


@pytest.mark.parametrize(
    ("path", "fields", "files"),
    [
        ("/api/v1/images/generate", {}, 1),
        ("/api/v1/images/stream", {}, 1),
        ("/v1/images/generations", {"n": 2, "size": "256x256"}, 2),
        ("/v1/images/generations", {"stream": True, "partial_images": 1, "size": "256x256"}, 1),
    ],
)
async def test_images_are_written_beside_the_event_loop_which_serves_the_others_meanwhile(
    path: str, fields: dict[str, Any], files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(monkeypatch, *FILES[:files])
    threads, encoded = [], []

    def b64encode(data: bytes) -> bytes:
        threads.append(threading.get_ident())
        return base64.b64encode(data)

    def dumps(value: Any, **options: Any) -> str:
        threads.append(threading.get_ident())
        encoded.append(json.dumps(value, **options))
        return encoded[-1]

    monkeypatch.setattr(answers, "base64", SimpleNamespace(b64encode=b64encode))
    for module in (serving, writing):
        monkeypatch.setattr(module, "json", SimpleNamespace(dumps=dumps))
    transport = httpx.ASGITransport(app := create_app(Settings(triton_url=NOWHERE)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x") as client,
    ):
        answer = await client.post(path, json={"prompt": "a boat"} | fields)
    assert answer.is_success
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith(("data: ", "{"))]
    told = json.loads(lines[-1])
    images = told.get("data", [told])
    texts = [image.get("b64_json") or image["image_url"].partition(",")[2] for image in images]
    assert [base64.b64decode(text) for text in texts] == [file.data for file in FILES[:files]]
    assert threading.get_ident() not in threads
    assert threads
    assert max(map(len, encoded)) < 1000, "one encoding of a file holds up all threads"


class MadeUpTriton:
    """A Triton that has these models, slowly."""

    model, image_model, timeout = "gemma", "sdxl", 10.0

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.readings = 0

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        self.readings += 1
        await asyncio.sleep(0.01)
        prompt = {name: "text_input" if name.startswith("g") else "prompt" for name in self.names}
        return [
            ModelInfo(name=name, version="1", ready=True, reason="", inputs=(TensorInfo(prompt[name], "BYTES", (1,)),))
            for name in self.names
        ]


def catalog_of(triton: MadeUpTriton) -> Catalog:
    return Catalog(triton, triton, Settings(triton_url=NOWHERE))  # type: ignore[arg-type]


async def test_those_who_ask_at_the_same_time_share_one_reading_of_the_models() -> None:
    triton = MadeUpTriton("gemma", "sdxl")
    catalog = catalog_of(triton)
    await asyncio.gather(*(catalog.check([TextCall("gemma")]) for _ in range(50)))
    await catalog.check([ImageCall("sdxl", {})])
    assert triton.readings == 1


async def test_lists_and_unknown_names_ask_triton_no_more_often() -> None:
    triton = MadeUpTriton("gemma", "sdxl")
    catalog = catalog_of(triton)
    await asyncio.gather(*(catalog.openai_models() for _ in range(50)))
    for _ in range(10):
        with pytest.raises(ModelNotFound):
            await catalog.check([TextCall("nobody")])
    assert triton.readings == 1


async def test_a_triton_that_is_away_takes_only_its_own_models_along() -> None:
    async with AsyncClient(NOWHERE) as away:
        catalog = Catalog(MadeUpTriton("gemma"), away, Settings())  # type: ignore[arg-type]
        await catalog.check([TextCall("gemma")])
        assert [model.id for model in await catalog.text_models()] == ["gemma"]
        assert [model.id for model in await catalog.openai_models()] == ["gemma"]
        with pytest.raises(ServerUnreachable):
            await catalog.check([ImageCall("sdxl", {})])
        with pytest.raises(ServerUnreachable):
            await Catalog(away, away, Settings()).openai_models()


async def test_one_who_leaves_does_not_take_the_others_reading_along() -> None:
    catalog = catalog_of(MadeUpTriton("gemma"))
    first, second = (asyncio.create_task(catalog.check([TextCall("gemma")])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()


async def test_a_model_that_has_just_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "FRESH_SECONDS", 0.05)
    triton = MadeUpTriton("gemma")
    catalog = catalog_of(triton)
    await catalog.check([TextCall("gemma")])
    triton.names.append("gemma2")
    await asyncio.sleep(0.1)
    await catalog.check([TextCall("gemma2")])


async def test_a_model_that_is_not_there_or_of_the_other_kind_is_refused() -> None:
    catalog = catalog_of(MadeUpTriton("gemma", "sdxl"))
    with pytest.raises(ModelNotFound, match="model: 'nobody' is not here; there are gemma, sdxl"):
        await catalog.check([TextCall("nobody")])
    with pytest.raises(InvalidRequest, match="model: 'sdxl' is not allowed: it is no text model"):
        await catalog.check([TextCall("gemma"), TextCall("sdxl")])


async def test_the_fictures_api_lists_the_models_that_it_uses_and_no_others() -> None:
    catalog = catalog_of(MadeUpTriton("gemma", "gemma2", "sdxl", "sdxl2"))
    assert [model.id for model in await catalog.text_models()] == ["gemma"]
    assert [model.id for model in await catalog.image_models()] == ["sdxl"]


def test_a_brief_report_tells_what_is_down_and_nothing_of_why() -> None:
    words = "internal: /srv/models/secret is not there"
    report = HealthReport(
        status="unhealthy",
        reason=f"sdxl_stream: {words}",
        models={"gemma": "ready", "sdxl": "ready", "sdxl_stream": words},
    )
    assert report.brief() == HealthReport(
        status="unhealthy",
        reason="sdxl_stream: unavailable",
        models={"gemma": "ready", "sdxl": "ready", "sdxl_stream": "unavailable"},
    )


def test_a_brief_report_of_a_healthy_server_is_the_whole() -> None:
    healthy = HealthReport(status="healthy", reason=None, models={"gemma": "ready"})
    assert healthy.brief() == healthy


@pytest.mark.parametrize(
    ("serve", "models"),
    [
        ("text,images", ["gemma", "sdxl", "sdxl_stream"]),
        ("text", ["gemma"]),
        ("images,gateway", ["sdxl", "sdxl_stream"]),
    ],
)
async def test_health_is_of_what_is_to_be_served(serve: str, models: list[str]) -> None:
    settings = Settings(serve=serve)  # type: ignore[arg-type]
    async with AsyncClient(NOWHERE) as nowhere:
        report = await HealthCheck(nowhere, nowhere, settings).report()
    assert list(report.models) == models
    assert not report.is_healthy


async def test_texts_and_images_may_come_from_a_triton_each() -> None:
    text, images = MadeUpTriton("gemma"), MadeUpTriton("sdxl")
    catalog = Catalog(text, images, Settings())  # type: ignore[arg-type]
    await catalog.check([TextCall("gemma"), ImageCall("sdxl", {})])
    assert [model.id for model in await catalog.openai_models()] == ["gemma", "sdxl"]


async def test_however_many_ask_for_its_health_triton_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def probe(self: AsyncClient, model: str, *, timeout: float) -> None:
        asked.append(model)
        await asyncio.sleep(0.01)

    monkeypatch.setattr(AsyncClient, "probe", probe)
    async with AsyncClient(NOWHERE) as client:
        check = HealthCheck(client, client, Settings())
        reports = await asyncio.gather(*(check.report() for _ in range(50)))
    assert asked == ["gemma", "sdxl", "sdxl_stream"]
    assert all(report.is_healthy for report in reports)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3"])
def test_neither_gateway_nor_launcher_serve_other_machines_without_keys(host: str) -> None:
    settings = Settings(api_host=host)
    with pytest.raises(ConfigurationError, match=f"API_HOST={host}: everybody"):
        serve(settings)
    with pytest.raises(ConfigurationError, match=f"API_HOST={host}: everybody"):
        preflight.check(settings)


async def test_strangers_are_told_no_words_of_the_server() -> None:
    for settings, knows in (
        (Settings(), True),
        (Settings(api_host="0.0.0.0", api_allow_anonymous=True), False),
    ):
        assert Access(settings).knows(Headers()) is knows


async def test_who_waits_as_long_as_told_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(Settings(api_requests_per_minute=1))
    caller = access.identify(Headers())
    with access.admit(caller):
        pass
    began = time.time()
    with pytest.raises(HTTPException) as refused, access.admit(caller):
        pass
    wait = int(refused.value.headers["Retry-After"])
    monkeypatch.setattr(time, "time", lambda: began + wait)
    with access.admit(caller):
        pass
