"""A real Prometheus scrapes the running stack: dashboards have data, and alerts fire when things go wrong for real.

The tests go from well to worse and in this order.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest

from conftest import START_TIMEOUT, Server, loaded_model, running_server, stub_of, wait_for
from fictures.gateway import keys
from monitoring import GPU_METRICS, METRICS, ON_A_GPU, alerts, needs_prometheus, queries, recordings
from real_prometheus import Prometheus, running_prometheus

pytestmark = [needs_prometheus, pytest.mark.timeout(500)]

MINUTE = 3
"""Seconds that a minute of the rules lasts here."""
WITHIN = 120
"""Seconds in which an alert has to come."""
TIGHT = "tight"
"""A text model that one request fills: it has room for one at a time, in batch and key-value cache."""
TIGHT_ENGINE = {"max_num_seqs": 1, "max_model_len": 14 * 128, "num_gpu_blocks_override": 15}  # one is vLLM's own
NOT_HERE = {"ImageOutOfMemory", "HostMemoryNearlyFull", "GpuMemoryNearlyFull"}
"""What cannot be made true here without a GPU or without harm to the machine; promtool's tests have these."""
SMALL_IMAGE = {"prompt": "a lighthouse", "width": 256, "height": 256, "num_inference_steps": 2}


@dataclass
class Stack:
    """A server, Prometheus that watches it, and how to ask it."""

    server: Server
    prometheus: Prometheus
    key: str
    limited_key: str
    fired: set[str] = field(default_factory=set)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"x-api-key": key or self.key}
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.server.api_url, headers=headers, limits=limits, timeout=60)

    async def see(self, *expected: str, **labels: str) -> None:
        """Wait until these alerts have fired since the test began to look."""
        began = time.monotonic()
        missing = set(expected)
        while missing:
            assert time.monotonic() - began < WITHIN, f"not fired: {missing}; fired: {self.prometheus.firing()}"
            await asyncio.sleep(0.3)
            seconds = time.monotonic() - began + 2
            missing = {name for name in missing if not self.prometheus.fired(name, seconds, **labels)}
            for name, annotations in self.prometheus.firing().items():
                for text in annotations.values():
                    assert not any(wrong in text for wrong in ("<error", "<no value>", "error expanding")), (name, text)
        self.fired |= set(expected)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("monitoring")
    file = folder / "keys.jsonl"
    key, limited = keys.create(file, "reader"), keys.create(file, "limited", requests_per_minute=1)
    with running_server(folder, API_KEYS_FILE=str(file), LOG_FORMAT="json") as server:
        targets = {"gateway": f"127.0.0.1:{server.ports['api']}", "triton": f"127.0.0.1:{server.ports['metrics']}"}
        with running_prometheus(folder, targets, MINUTE) as prometheus:
            yield Stack(server, prometheus, key, limited)


@asynccontextmanager
async def meanwhile(*requests: Awaitable[Any]) -> AsyncIterator[None]:
    """Requests that go on while the block runs; at its end their clients leave."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def again_and_again(request: Callable[[], Awaitable[Any]]) -> None:
    while True:
        with suppress(httpx.HTTPError):
            await request()
        await asyncio.sleep(0.1)


def completion(max_tokens: int, prompt: str = "Once upon a time", model: str = "gemma") -> dict[str, Any]:
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "stream": True}
    return body | {"ignore_eos": True, "temperature": 0}


async def read(client: httpx.AsyncClient, body: dict[str, Any], after_first: Callable[[], Any] = lambda: None) -> None:
    """A text stream to its end."""
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        first = True
        async for _ in answer.aiter_lines():
            if first:
                first = False
                after_first()


def engine_core(server: Server, model: str) -> psutil.Process:
    (found,) = [child for child in stub_of(server, model).children() if "EngineCor" in child.name()]
    return found


def in_the_engines(server: Server) -> float:
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "fictures_image_requests_running")
    return sum(map(server.metric, (*names, "fictures_image_requests_waiting")))


def test_prometheus_with_the_committed_configuration_where_nothing_runs(tmp_path: Path) -> None:
    with running_prometheus(tmp_path, None, MINUTE) as prometheus:
        wait_for(lambda: {"NoGateway", "NoTriton"} <= prometheus.firing().keys(), WITHIN, "nothing is there")
        assert prometheus.targets() == []


def test_the_gpu_dashboard_has_data_of_what_triton_said_on_a_gpu(tmp_path: Path) -> None:
    """A machine without one replays it: the memory fills up, the other counters go on."""
    scrapes = count(1)

    class Replay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = next(scrapes)
            text = re.sub(r"(?m)^(nv_energy_consumption\{.*\}) .*", rf"\1 {600 * number}", ON_A_GPU.read_text())
            text = re.sub(r"(?m)^(nv_gpu_memory_used_bytes\{.*\}) .*", rf"\1 {150e9 if number > 4 else 1e9}", text)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(f"{text}vllm:generation_tokens_total {100 * number}\n".encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Replay) as triton:
        Thread(target=triton.serve_forever, daemon=True).start()
        targets = {"triton": f"127.0.0.1:{triton.server_port}", "gateway": f"127.0.0.1:{triton.server_port}"}
        with running_prometheus(tmp_path, targets, MINUTE) as prometheus:
            of_gpus = [query.of_everything("15s") for query in queries() if query.needs_a_gpu]
            assert len(of_gpus) == sum(query.dashboard == "gpu" for query in queries())
            wait_for(lambda: all(map(prometheus.has_value, of_gpus)), WITHIN, "data for every query")
            wait_for(lambda: "GpuMemoryNearlyFull" in prometheus.firing(), WITHIN, "the alert")
        triton.shutdown()


async def test_every_query_of_the_dashboards_has_data_and_a_busy_healthy_stack_is_quiet(stack: Stack) -> None:
    async with stack.client() as client:
        text = {"prompt": "Once upon a time", "max_tokens": 30}
        traffic = [
            lambda: read(client, completion(30)),
            lambda: client.post("/api/v1/text/generate", json=text),
            lambda: client.post("/api/v1/images/generate", json=SMALL_IMAGE),
            lambda: client.post("/api/v1/images/stream", json=SMALL_IMAGE),
            lambda: client.get("/health"),
        ]
        wanted = [query for query in queries() if not query.needs_a_gpu]
        async with meanwhile(*map(again_and_again, traffic)):
            began = time.monotonic()
            while wanted and time.monotonic() - began < WITHIN:
                await asyncio.sleep(1)
                wanted = [query for query in wanted if not stack.prometheus.has_value(query.of_everything("15s"))]
            assert [str(query) for query in wanted] == []
            # How fast this machine is has no place here.
            firing = [name for name in stack.prometheus.firing() if not name.endswith(("High", "Long"))]
            assert firing == []


async def test_one_id_joins_the_logs_of_gateway_and_triton(stack: Stack) -> None:
    logging, logs = f"{stack.server.http_url}/v2/logging", stack.server.folder / "logs"
    httpx.post(logging, json={"log_verbose_level": 1}).raise_for_status()
    async with stack.client() as client:
        told = {"headers": {"x-request-id": "story-4711"}}
        whole = await client.post("/api/v1/text/generate", json={"prompt": "a", "max_tokens": 2}, **told)
        wrong = await client.post("/v1/completions", json=completion(1, "a " * 9000), **told)
        image = await client.post("/api/v1/images/generate", json=SMALL_IMAGE, **told)
    httpx.post(logging, json={"log_verbose_level": 0}).raise_for_status()
    assert [answer.status_code for answer in (whole, wrong, image)] == [200, 400, 200]
    assert {answer.headers["x-request-id"] for answer in (whole, wrong, image)} == {"story-4711"}
    lines = [json.loads(line) for line in (logs / "gateway.log").read_text().splitlines()]
    found = [line["status"] for line in lines if line.get("request_id") == "story-4711"]
    assert found == [200, 400, 200]
    triton = (logs / "tritonserver.log").read_text()
    for model in ("gemma", "sdxl"):
        assert re.search(rf"\[request id: story-4711\] prepared: .* model: {model},", triton)
    assert "Failed for ID: story-4711" in triton


async def test_more_than_the_engines_can_do(stack: Stack) -> None:
    prompt = "the sea " * 840  # two tokens each: with what is generated all 14 blocks of 128
    large = {"prompt": "the sea", "width": 1024, "height": 1024, "num_inference_steps": 100}
    with loaded_model(stack.server, TIGHT, TIGHT_ENGINE):
        async with stack.client() as client:
            texts = [read(client, completion(100, prompt, TIGHT)) for _ in range(220)]
            images = [client.post("/api/v1/images/stream", json=large) for _ in range(60)]
            async with meanwhile(*texts, *images):
                await stack.see("GatewayNearItsLimits", "ImageQueueNearlyFull", "ImageWaitLong")
                await stack.see("TimeToFirstTokenHigh", "TextQueueTimeHigh", "KeyValueCacheFull")
        wait_for(lambda: in_the_engines(stack.server) == 0, 120, "the engines are done with what nobody waits for")


async def test_callers_that_ask_for_the_wrong_thing(stack: Stack) -> None:
    async with stack.client() as client, stack.client("no-key") as unknown, stack.client(stack.limited_key) as limited:
        wrong = {"prompt": "a", "max_tokens": -1}
        async with meanwhile(
            again_and_again(lambda: client.post("/api/v1/text/generate", json=wrong)),
            again_and_again(lambda: unknown.get("/v1/models")),
            again_and_again(lambda: limited.get("/v1/models")),
        ):
            await stack.see("InvalidRequests", "UnknownKeys", "TooManyRequests")


async def test_an_engine_that_stumbles(stack: Stack) -> None:
    core = engine_core(stack.server, "gemma")
    async with stack.client() as client:
        for _ in range(3):
            stream = asyncio.create_task(read(client, completion(40), core.suspend))
            await asyncio.sleep(0.7)
            core.resume()
            await stream
        await stack.see("InterTokenLatencyHigh")


async def test_requests_that_take_long_to_read(stack: Stack) -> None:
    parameters = json.dumps({"bad_words": [f"word{number}" for number in range(600_000)]})
    body = json.dumps({"text_input": "a", "sampling_parameters": parameters})
    url = f"{stack.server.http_url}/v2/models/gemma/generate"
    async with httpx.AsyncClient(timeout=60) as client:
        refused = await asyncio.gather(*(client.post(url, content=body) for _ in range(40)))
    assert {answer.status_code for answer in refused} == {400}
    await stack.see("TritonQueueTimeHigh")


async def test_an_engine_that_dies_under_its_streams(stack: Stack) -> None:
    core = engine_core(stack.server, "gemma")
    begun = asyncio.Semaphore(0)
    async with stack.client() as client, meanwhile(*(read(client, completion(3000), begun.release) for _ in range(8))):
        for _ in range(8):
            await begun.acquire()
        core.kill()
        await stack.see("StreamsFailing")
    wait_for(stack.server.is_serving, START_TIMEOUT, "another engine")


async def test_models_that_are_unloaded(stack: Stack) -> None:
    for model in ("gemma", "sdxl_stream"):
        control = f"{stack.server.http_url}/v2/repository/models/{model}/unload"
        httpx.post(control, timeout=60).raise_for_status()
    async with (
        stack.client() as client,
        meanwhile(
            *(again_and_again(lambda: client.post("/v1/completions", json=completion(1))) for _ in range(4)),
            *(again_and_again(lambda: client.post("/api/v1/images/generate", json=SMALL_IMAGE)) for _ in range(4)),
            again_and_again(lambda: client.get("/health")),
        ),
    ):
        await stack.see("TextModelDown", "ServerUnhealthy", "ErrorRateHigh")
        await stack.see("ImageModelDown", model="sdxl_stream")
        for kind in ("text", "images"):
            await stack.see("RequestsFailing", kind=kind)


async def test_a_model_whose_process_dies_and_triton_after_it(stack: Stack) -> None:
    launcher = psutil.Process(stack.server.process.pid)
    url = f"{stack.server.http_url}/v2/models/sdxl/generate"
    launcher.suspend()  # which would start everything again at once
    try:
        stub_of(stack.server, "sdxl").kill()
        async with httpx.AsyncClient(timeout=10) as client:
            ask = again_and_again(lambda: client.post(url, json={"prompt": "", "health_check": True}))
            async with meanwhile(ask):
                await stack.see("TritonFailures", model="sdxl")
    finally:
        launcher.resume()
    await stack.see("ReplicaDown", job="triton")
    await stack.see("NoTriton")
    wait_for(stack.server.is_serving, START_TIMEOUT, "Triton started again")
    await stack.see("TritonRestarted")


async def test_a_gateway_that_hangs_and_one_that_dies(stack: Stack) -> None:
    gateway = psutil.Process(stack.server.state["gateway"]["pid"])
    gateway.suspend()
    await stack.see("NoGateway")
    await stack.see("ReplicaDown", job="gateway")
    gateway.kill()
    wait_for(stack.server.gateway_is_live, 60, "the gateway started again")
    await stack.see("GatewayRestarted")


def test_every_alert_that_can_be_made_true_here_has_fired(stack: Stack) -> None:
    assert {alert["alert"] for alert in alerts()} - stack.fired == NOT_HERE


def test_every_rule_was_computed_without_an_error_and_every_recording_had_data(stack: Stack) -> None:
    rules = stack.prometheus.rules()
    assert len(rules) == len(alerts()) + len(recordings())
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert {rule["record"] for rule in recordings()} <= stack.prometheus.metrics()


def test_the_list_of_metrics_is_that_of_the_real_stack(stack: Stack) -> None:
    recorded = {rule["record"] for rule in recordings()}
    starts = ("fictures_", "vllm:", "nv_")
    real = {name for name in stack.prometheus.metrics() if name.startswith(starts)} - recorded - GPU_METRICS
    if os.environ.get("UPDATE_METRICS"):
        METRICS.write_text("".join(f"{name}\n" for name in sorted(real)))
    assert METRICS.read_text().split() == sorted(real), "UPDATE_METRICS=1 writes the list anew"
