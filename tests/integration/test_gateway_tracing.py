"""Traces go to an OTLP endpoint when OpenTelemetry's variables name one, and tie the call of Triton to its request."""

import gzip
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from conftest import ROOT, Server, free_ports, wait_for


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP endpoint, and the spans that arrive there."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()


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
    assert (call.trace_id, call.parent_span_id) == (request.trace_id, request.span_id)
