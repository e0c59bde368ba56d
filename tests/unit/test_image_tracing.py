"""The image engine draws with and without a collector, and with and without OpenTelemetry's packages."""

import sys
from types import SimpleNamespace

import pytest

from image_engine.tracing import Tracer


class Log:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def log_warn(self, line: str) -> None:
        self.warnings.append(line)


def test_without_a_collector_nothing_of_opentelemetry_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    draw_one(monkeypatch)


def test_without_its_packages_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    (warning,) = draw_one(monkeypatch)
    assert warning == "[image] no traces: opentelemetry-exporter-otlp-proto-http is not installed"


def draw_one(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The life of a tracer where OpenTelemetry is not installed; what it warns of."""
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    log = Log()
    tracer = Tracer(log)
    tracer.record(SimpleNamespace(), failure=None)
    tracer.stop()
    return log.warnings
