"""docker/compose.yaml starts what it promises, bounded, and reachable from this machine only."""

import subprocess
from typing import Any

import pytest

from conftest import ROOT
from dockerfiles import DOCKER, FOREIGN, compose, image, read, tool
from fictures.errors import ConfigurationError
from fictures.gateway import keys
from fictures.gateway.exposure import check_exposure
from fictures.settings import VARIABLES, Settings

OURS = ("triton-gpu", "triton-cpu", "gateway")
PROFILES = {"triton-gpu": ["gpu"], "triton-cpu": ["cpu"], "gateway": ["gpu", "cpu"]}
ENTRYPOINTS_OWN = {"HF_TOKEN_FILE"}
FIXED = {"API_HOST", "API_PORT", "TRITON_HOST", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT",
         "TRITON_HOME", "HF_TOKEN"}  # fmt: skip
"""Settings that containers do not take from outside: the images or Docker say what they are, the token is a secret."""


def test_compose_is_valid() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def services() -> list[Any]:
    return [pytest.param(name, service, id=name) for name, service in compose()["services"].items()]


def test_the_profiles_start_what_they_promise() -> None:
    found = {name: service["profiles"] for name, service in compose()["services"].items()}
    assert found == PROFILES | {"prometheus": ["monitoring"], "grafana": ["monitoring"]}


@pytest.mark.parametrize(("name", "service"), services())
def test_a_service_comes_back_is_bounded_and_may_nothing(name: str, service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    resources = service["deploy"]["resources"]
    assert in_bytes(resources["reservations"]["memory"]) <= in_bytes(resources["limits"]["memory"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def in_bytes(text: str) -> int:
    return int(text[:-1]) << {"m": 20, "g": 30}[text[-1]]


@pytest.mark.parametrize(("name", "service"), services())
def test_a_service_is_asked_whether_it_is_well(name: str, service: dict[str, Any]) -> None:
    if "build" in service:
        assert read(ROOT / service["build"]["dockerfile"]).final.all("HEALTHCHECK")
    else:
        assert service["healthcheck"]["test"]


def test_only_the_gateway_and_grafana_have_a_port_and_only_on_this_machine() -> None:
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert ports == {"gateway": ["127.0.0.1:9000:9000"], "grafana": ["127.0.0.1:3000:3000"]}


def test_what_has_a_port_is_not_in_a_network_with_more_than_it_needs() -> None:
    networks = {name: set(service["networks"]) for name, service in compose()["services"].items()}
    assert networks == {
        "triton-gpu": {"serving"},
        "triton-cpu": {"serving"},
        "gateway": {"serving", "published"},
        "prometheus": {"serving", "monitoring"},
        "grafana": {"monitoring", "published"},
    }
    assert compose()["networks"]["monitoring"] == {"internal": True}


def test_the_gateway_finds_triton_by_the_name_that_both_servers_have() -> None:
    services = compose()["services"]
    host, _, port = services["gateway"]["environment"]["TRITON_URL"].partition(":")
    assert int(port) == Settings.model_fields["triton_grpc_port"].default
    for name in ("triton-gpu", "triton-cpu"):
        assert host in services[name]["networks"]["serving"]["aliases"]


def gateway_settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """What the gateway's container would read."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    given = compose(**variables)["services"]["gateway"]["environment"]
    passed = {name: variables.get(name) if value is None else value for name, value in given.items()}
    for name, value in (image("gateway").final.environment | passed).items():
        if value and name in VARIABLES:
            monkeypatch.setenv(name, str(value))
    return Settings()


def test_on_this_machine_the_gateway_asks_for_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gateway_settings(monkeypatch)
    check_exposure(settings)
    assert settings.api_keys_file is None
    assert settings.api_host == "0.0.0.0"


def test_on_other_addresses_it_always_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = gateway_settings(monkeypatch, FICTURES_ADDRESS="0.0.0.0")
    assert settings.api_keys_file is not None
    assert settings.api_keys_file.is_relative_to("/keys")
    assert compose()["services"]["gateway"]["volumes"] == ["keys:/keys"]
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keys.read(settings.api_keys_file)


def test_a_setting_of_the_machine_reaches_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway_settings(monkeypatch, API_MAX_CONCURRENT="7").api_max_concurrent == 7


def test_the_token_is_a_secret_and_no_secret_is_needed() -> None:
    for name in ("triton-gpu", "triton-cpu"):
        service = compose()["services"][name]
        assert service["secrets"] == ["hf_token"]
        assert service["environment"]["HF_TOKEN_FILE"] == "/run/secrets/hf_token"
    assert compose()["secrets"]["hf_token"]["file"] == "/dev/null"
    assert compose(HF_TOKEN_FILE="/home/me/token")["secrets"]["hf_token"]["file"] == "/home/me/token"
    assert "secrets" not in compose()["services"]["gateway"]


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_the_models_are_kept_where_the_image_looks_for_them(name: str) -> None:
    volumes = dict(volume.split(":") for volume in compose()["services"][f"triton-{name}"]["volumes"])
    final = image(name).final
    assert volumes["models"] == "/models"
    assert final.environment["HF_HOME"] == "/models/huggingface"
    assert volumes[f"cache-{name}"] == "/opt/fictures/.run/cache"
    made = next(run.value for run in final.all("RUN") if "install --directory" in run.value)
    for folder in ("/models/huggingface", "/opt/fictures/.run", "/opt/fictures/.run/cache"):
        assert f" {folder} " in f"{made} "


def test_a_gpu_is_reserved() -> None:
    reserved = compose()["services"]["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]


def test_the_files_that_prometheus_and_grafana_read_are_there() -> None:
    for name in ("prometheus", "grafana"):
        for volume in compose()["services"][name]["volumes"]:
            if volume.startswith("./"):
                assert (DOCKER / volume.split(":")[0]).exists(), volume


@pytest.mark.parametrize("service", ["triton-gpu", "triton-cpu", "gateway"])
def test_a_stopping_service_has_the_time_that_its_requests_have(service: str) -> None:
    setting = "api_shutdown_timeout" if service == "gateway" else "triton_shutdown_timeout"
    grace = compose()["services"][service]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= Settings.model_fields[setting].default + 10


def test_compose_and_dockerfile_build_from_the_same_tag() -> None:
    built = compose()["services"]["triton-gpu"]["build"]["args"]
    arguments = image("gpu").arguments
    assert built == {"TRITON_TAG": arguments["TRITON_TAG"], "VLLM": arguments["VLLM"]}


@pytest.mark.parametrize("service", OURS)
def test_every_variable_of_our_services_is_known(service: str) -> None:
    assert set(compose()["services"][service]["environment"]) <= {*VARIABLES, *FOREIGN, *ENTRYPOINTS_OWN}


@pytest.mark.parametrize("server", ["triton-gpu", "triton-cpu"])
def test_every_setting_reaches_a_service(server: str) -> None:
    services = compose()["services"]
    passed = {*services[server]["environment"], *services["gateway"]["environment"]}
    assert passed >= set(VARIABLES) - FIXED


@pytest.mark.parametrize("service", OURS)
def test_all_of_ours_send_traces_to_the_same_collector(service: str) -> None:
    assert {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} <= set(
        compose()["services"][service]["environment"]
    )


def test_a_name_for_traces_is_the_gateways_since_two_services_need_two() -> None:
    named = {name for name in OURS if "OTEL_SERVICE_NAME" in compose()["services"][name]["environment"]}
    assert named == {"gateway"}
