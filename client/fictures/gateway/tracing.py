"""OpenTelemetry traces, when an exporter is configured by OpenTelemetry's own variables: each request, and below it
each call of Triton, which gets the trace's context in its headers.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fastapi import FastAPI

_CONFIGURED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(app: FastAPI) -> Callable[[], None]:
    """Send traces to the OTLP endpoint of the environment, if there is one. Call before the first connection.

    Returns:
        What sends those that are still here; to be called at the end, since a process that a signal ends runs no
        exit handlers.
    """
    if not any(os.environ.get(name) for name in _CONFIGURED_BY):
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "fictures-gateway")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, excluded_urls="/health.*,/metrics", exclude_spans=["receive", "send"]
    )
    GrpcAioInstrumentorClient().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    return provider.shutdown
