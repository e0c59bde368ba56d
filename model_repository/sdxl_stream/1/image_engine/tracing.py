"""A span for each request, below the one that Triton has for it, when OpenTelemetry's variables name a collector."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from image_engine.job import Job

_CONFIGURED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NEEDS = "opentelemetry.exporter.otlp.proto.http"


class Tracer:
    """Sends spans in the background; does nothing without a collector, or without OpenTelemetry's packages."""

    def __init__(self, logger: Any) -> None:
        self._provider = None
        if not any(os.environ.get(name) for name in _CONFIGURED_BY):
            return
        if not _is_installed():
            logger.log_warn(f"[image] no traces: {_NEEDS.replace('.', '-')} is not installed")
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("image_engine")

    def record(self, job: Job, failure: str | None) -> None:
        """Call when a request has had its answer, with the reason if that was an error."""
        if self._provider is None:
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        request = job.request
        span = self._tracer.start_span(
            "image_request",
            context=TraceContextTextMapPropagator().extract(request.trace_headers),
            kind=SpanKind.SERVER,
            start_time=job.times.arrived,
            attributes={
                "gen_ai.request.id": request.request_id,
                "image.width": request.width,
                "image.height": request.height,
                "image.count": request.image_count,
                "image.num_inference_steps": request.num_inference_steps,
                "image.scheduler": request.scheduler,
            },
        )
        for name, seconds in job.times.durations().items():
            span.set_attribute(f"gen_ai.latency.{name}", seconds)
        if failure is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute("error.type", failure)
        span.end()

    def stop(self) -> None:
        """Sends what is still here."""
        if self._provider is not None:
            self._provider.shutdown()


def _is_installed() -> bool:
    try:
        return find_spec(_NEEDS) is not None
    except ModuleNotFoundError:  # nor what it is a part of
        return False
