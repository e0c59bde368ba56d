"""Traces go to an OTLP endpoint when OpenTelemetry's variables name one: a request is one, from gateway to engine."""

import base64
import gzip
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from conftest import ROOT, Server, free_ports, running_server, wait_for


@dataclass(frozen=True)
class Span:
    """As much of a span as the tests look at; ids are hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP endpoint, and the spans that arrive there: Triton's in JSON, all others as Protocol Buffers."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            if self.path == "/v1/traces":
                spans.extend(read(data, is_json=self.headers["content-type"] == "application/json"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()


def read(data: bytes, *, is_json: bool) -> Iterator[Span]:
    """What one message to a collector holds. Ids are hexadecimal in OTLP's JSON, base64 in Protocol Buffers' own."""
    message = json.loads(data) if is_json else MessageToDict(ExportTraceServiceRequest.FromString(data))
    for resource in message["resourceSpans"]:
        service = attributes(resource["resource"])["service.name"]
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            ids = [span.get(name, "") for name in ("traceId", "spanId", "parentSpanId")]
            if not is_json:
                ids = [base64.b64decode(each).hex() for each in ids]
            yield Span(service, span["name"], *ids, attributes(span))


def attributes(part: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values()), None) for each in part.get("attributes", [])}


@contextmanager
def gateway(server: Server, **variables: str) -> Iterator[str]:
    """One more gateway beside the launcher's, on a port of its own."""
    (port,) = free_ports(1)
    env = os.environ | {"TRITON_URL": server.grpc_url, "API_PORT": str(port)} | variables
    process = subprocess.Popen([ROOT / ".venv/bin/fictures", "gateway"], env=env, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def is_live() -> bool:
        try:
            return httpx.get(f"{url}/health/live", timeout=2).is_success
        except httpx.HTTPError:
            return False

    try:
        wait_for(is_live, 30, "the gateway is live")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_a_request_and_its_call_of_triton_are_one_trace(server: Server) -> None:
    with collector() as (endpoint, spans):
        with gateway(server, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as url:
            body = {"prompt": "Once", "max_tokens": 2}
            assert httpx.post(f"{url}/api/v1/text/generate", json=body, timeout=30).is_success
        wait_for(lambda: len(spans) >= 2, 15, "the spans arrived")
    by_name = {span.name: span for span in spans}
    request = by_name["POST /api/v1/text/generate"]
    call = by_name["/inference.GRPCInferenceService/ModelStreamInfer"]
    assert (call.trace_id, call.parent_id) == (request.trace_id, request.span_id)


TEXT = {"prompt": "Once", "max_tokens": 3}
IMAGE = {"prompt": "Once", "width": 256, "height": 264, "num_inference_steps": 2}
REQUESTS = {  # by path: a body, what the gateway calls, the model of Triton, the engine's span
    "/api/v1/text/generate": (TEXT, "ModelStreamInfer", "gemma", "llm_request"),
    "/api/v1/text/stream": (TEXT, "ModelStreamInfer", "gemma", "llm_request"),
    "/api/v1/images/generate": (IMAGE, "ModelInfer", "sdxl", "image_request"),
    "/api/v1/images/stream": (IMAGE, "ModelStreamInfer", "sdxl_stream", "image_request"),
}


def test_a_request_is_one_trace_from_the_gateway_to_the_engine(tmp_path: Path) -> None:
    with collector() as (endpoint, spans):
        with running_server(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server:
            for path, (body, *_) in REQUESTS.items():
                headers = {"x-request-id": f"id-of{path}"}
                assert httpx.post(server.api_url + path, json=body, headers=headers, timeout=60).is_success
            left = {"json": IMAGE | {"num_inference_steps": 100}, "headers": {"x-request-id": "one-that-left"}}
            with httpx.stream("POST", f"{server.api_url}/api/v1/images/stream", **left, timeout=60) as stream:
                next(stream.iter_lines())
            wait_for(lambda: server.metric("fictures_image_failures_total", reason="cancelled") > 0, 15, "cancelled")
        # What was still to be sent was sent while the server stopped.
        (cancelled,) = [span for span in spans if span.attributes.get("gen_ai.request.id") == "one-that-left"]
        assert cancelled.attributes["error.type"] == "cancelled"
        assert "gen_ai.latency.time_in_decoding" not in cancelled.attributes
        for path, (_, call, model, engine) in REQUESTS.items():
            request_id = f"id-of{path}"
            (in_triton,) = [span for span in spans if span.attributes.get("triton.request_id") == request_id]
            trace = {span.name: span for span in spans if span.trace_id == in_triton.trace_id}
            way = [f"POST {path}", f"/inference.GRPCInferenceService/{call}", "InferRequest", model, engine]
            assert set(trace) == {*way, "compute"}
            assert [trace[name].parent_id for name in way] == ["", *(trace[name].span_id for name in way[:-1])]
            assert [trace[name].service for name in way] == ["fictures-gateway"] * 2 + ["fictures-triton"] * 3
            assert trace[model] is in_triton
            assert re.fullmatch(re.escape(request_id) + r"(-\d+)?", trace[engine].attributes["gen_ai.request.id"])
            if engine == "image_request":
                said = trace[engine].attributes
                assert (int(said["image.width"]), int(said["image.height"]), int(said["image.count"])) == (256, 264, 1)
                assert int(said["image.num_inference_steps"]) == 2
                parts = [said[f"gen_ai.latency.time_in_{part}"] for part in ("queue", "denoising", "decoding")]
                assert all(0 < seconds < 60 for seconds in parts)
