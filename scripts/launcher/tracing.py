"""Where Triton and its engines send OpenTelemetry traces, by OpenTelemetry's own variables, and under which name."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from launcher.errors import LaunchError

_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_ALL_SIGNALS = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SERVICE = "OTEL_SERVICE_NAME"


@dataclass(frozen=True)
class Tracing:
    """A collector that takes OTLP over HTTP, the one protocol that Triton speaks."""

    url: str
    """That traces are posted to."""
    service: str
    """What Triton and its engines call themselves."""

    @classmethod
    def configured(cls, variables: Mapping[str, str] = os.environ) -> "Tracing | None":
        """What the variables ask for, None where they name no collector.

        Raises:
            LaunchError: The collector's address is no URL for HTTP.
        """
        service = variables.get(_SERVICE) or "fictures-triton"
        if value := variables.get(_TRACES):
            return cls(_checked(_TRACES, value), service)
        if value := variables.get(_ALL_SIGNALS):
            return cls(_checked(_ALL_SIGNALS, value).rstrip("/") + "/v1/traces", service)
        return None

    @property
    def arguments(self) -> list[str]:
        """The part of tritonserver's command line that has it trace those requests that come with a trace."""
        settings = (
            "mode=opentelemetry",
            "level=TIMESTAMPS",
            "rate=0",
            "count=-1",
            f"opentelemetry,url={self.url}",
            f"opentelemetry,resource=service.name={self.service}",
        )
        return [f"--trace-config={setting}" for setting in settings]

    @property
    def variables(self) -> dict[str, str]:
        """What the engines read. vLLM would speak gRPC if it were not told."""
        return {_TRACES: self.url, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", _SERVICE: self.service}


def _checked(name: str, value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise LaunchError(
            f"{name}={value}: must be the URL of a collector for OTLP over HTTP, such as http://host:4318"
        )
    return value
