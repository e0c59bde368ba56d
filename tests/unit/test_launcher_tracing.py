"""OpenTelemetry's own variables decide whether Triton and its engines send traces, where to and as what."""

import json
from pathlib import Path

import pytest

from conftest import ROOT
from fictures.settings import Settings
from launcher import triton
from launcher.errors import LaunchError
from launcher.layout import Instance
from launcher.models import ImageModel, TextModel
from launcher.repository import lay_out
from launcher.tracing import Tracing

TRACES, ALL_SIGNALS = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
MODEL = TextModel("google/gemma-2b-it", "auto", is_local=False)
TRACING = Tracing("http://collector:4318/v1/traces", "stories")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({ALL_SIGNALS: "", TRACES: ""}, None),
        ({ALL_SIGNALS: "http://collector:4318"}, "http://collector:4318/v1/traces"),
        ({ALL_SIGNALS: "https://collector/otel/"}, "https://collector/otel/v1/traces"),
        ({ALL_SIGNALS: "http://a:1", TRACES: "http://b:2/traces/"}, "http://b:2/traces/"),
    ],
)
def test_the_collector_is_found_as_opentelemetry_says(variables: dict[str, str], url: str | None) -> None:
    found = Tracing.configured(variables)
    assert (found and found.url) == url


@pytest.mark.parametrize("name", [TRACES, ALL_SIGNALS])
@pytest.mark.parametrize("value", ["collector:4318", "grpc://collector:4317", "http://", "http://collector:port"])
def test_a_collector_that_nothing_can_be_posted_to_is_named(name: str, value: str) -> None:
    with pytest.raises(LaunchError, match=f"^{name}={value}: must be the URL of a collector"):
        Tracing.configured({name: value})


def test_triton_has_a_name_of_its_own_unless_one_is_given() -> None:
    variables = {ALL_SIGNALS: "http://collector:4318"}
    assert Tracing.configured(variables).service == "fictures-triton"
    assert Tracing.configured(variables | {"OTEL_SERVICE_NAME": "stories"}).service == "stories"


def command(tracing: Tracing | None) -> list[str]:
    found = triton.find_distribution(None)
    return triton.command(found, Path("/backends"), Instance(8000), Settings(), "prefix_", tracing)


def environment(tracing: Tracing | None) -> dict[str, str]:
    found = triton.find_distribution(None)
    return triton.environment(found, Settings(), MODEL, "/tmp/x", {}, tracing=tracing)


def engine_arguments(folder: Path, tracing: Tracing | None) -> dict[str, object]:
    images = ImageModel("owner/sdxl", is_local=False)
    lay_out(ROOT / "model_repository", folder, Settings(), MODEL, images, {}, compiled=True, tracing=tracing)
    return json.loads((folder / "gemma/1/model.json").read_text())


def test_triton_traces_the_requests_that_come_with_a_trace_and_no_others() -> None:
    added = command(TRACING)[len(command(None)) :]
    options = [option.removeprefix("--trace-config=") for option in added]
    assert {"mode=opentelemetry", "rate=0", "count=-1", f"opentelemetry,url={TRACING.url}"} < set(options)
    assert "opentelemetry,resource=service.name=stories" in options


def test_the_engines_send_to_the_same_place_over_http(tmp_path: Path) -> None:
    assert environment(TRACING) == environment(None) | {
        TRACES: TRACING.url,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "stories",
    }
    plain = engine_arguments(tmp_path / "plain", None)
    assert engine_arguments(tmp_path / "traced", TRACING) == plain | {"otlp_traces_endpoint": TRACING.url}


def test_without_a_collector_nothing_is_said_of_traces(tmp_path: Path) -> None:
    said = json.dumps([command(None), environment(None), engine_arguments(tmp_path / "plain", None)])
    assert "OTEL" not in said
    assert "trace" not in said
