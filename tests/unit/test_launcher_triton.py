"""Which Triton is started and how: the embedded one, or one that is installed."""

import os
from pathlib import Path

import pytest

from fictures.settings import Settings
from launcher import triton
from launcher.errors import LaunchError
from launcher.layout import Instance
from launcher.models import TextModel

MODEL = TextModel("google/gemma-2b-it", "auto", is_local=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The files of an installed Triton that count."""
    home = tmp_path / "tritonserver"
    for file in ("bin/tritonserver", f"backends/python/{triton.STUB}", "backends/python/model.py"):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).touch()
    return home


def arguments(settings: Settings) -> dict[str, str]:
    found = triton.find_distribution(None)
    _, *options = triton.command(found, Path("/backends"), Instance(8000), settings, "prefix_", None)
    return dict(option.removeprefix("--").split("=", 1) for option in options)


def test_an_installed_triton_has_its_own_stub_and_the_projects_backend(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "RUN", tmp_path / "run")
    found = triton.find_distribution(installed)
    assert found.binary == installed / "bin" / "tritonserver"
    backends = triton.assemble(found)
    assert sorted(folder.name for folder in backends.iterdir()) == ["python", "vllm"]
    assert (backends / "python" / triton.STUB).is_file()
    assert (backends / "vllm").resolve() == triton.ROOT / "backends" / "vllm"
    assert triton.assemble(found) == backends


@pytest.mark.parametrize("file", ["bin/tritonserver", f"backends/python/{triton.STUB}"])
def test_a_folder_without_a_triton_is_named(installed: Path, file: str) -> None:
    (installed / file).unlink()
    with pytest.raises(
        LaunchError, match=f"TRITON_HOME={installed}: there is no Triton with a Python backend .*{file}"
    ):
        triton.find_distribution(installed)


def test_an_installed_triton_finds_its_libraries_as_its_image_says(installed: Path) -> None:
    inherited = {"LD_LIBRARY_PATH": "/image/lib", "PATH": "/bin"}
    for home, expected in ((installed, "/image/lib"), (None, "nvidia_pytriton.libs")):
        found = triton.find_distribution(home)
        variables = triton.environment(found, Settings(), MODEL, "/tmp/x", inherited)
        assert expected in variables["LD_LIBRARY_PATH"]
        assert variables["PATH"].split(os.pathsep)[-1] == "/bin"


def test_triton_listens_on_this_machine_unless_it_is_told_otherwise() -> None:
    names = ("http-address", "grpc-address", "metrics-address")
    assert {arguments(Settings())[name] for name in names} == {"127.0.0.1"}
    assert {arguments(Settings(triton_host="0.0.0.0"))[name] for name in names} == {"0.0.0.0"}


def test_how_triton_stops_and_lets_clients_connect_anew_are_settings() -> None:
    assert "grpc-max-connection-age" not in arguments(Settings())
    given = arguments(Settings(triton_max_connection_age=300, triton_shutdown_timeout=120))
    assert given["grpc-max-connection-age"] == "300000"
    assert given["exit-timeout-secs"] == "120"


def test_on_this_machine_the_served_models_are_loaded_by_name_and_more_can_be() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        found = arguments(Settings(triton_host=host, serve=["text"]))
        assert (found["model-control-mode"], found["load-model"]) == ("explicit", "gemma")
        assert not [name for name in found if "restricted" in name]


@pytest.mark.parametrize(
    "settings", [{"triton_host": "0.0.0.0"}, {"triton_host": "10.0.0.7"}, {"triton_admin_key": "k"}]
)
def test_where_others_reach_triton_its_administration_is_closed(settings: dict[str, str]) -> None:
    found = arguments(Settings(**settings))  # type: ignore[arg-type]
    assert found["model-control-mode"] == "none"
    assert "load-model" not in found
    for protocol in ("http-restricted-api", "grpc-restricted-protocol"):
        assert found[protocol].startswith("shared-memory,logging,trace:admin-key=")


def test_the_key_is_the_one_that_is_set_or_another_at_each_start() -> None:
    def key(settings: Settings) -> str:
        return arguments(settings)["http-restricted-api"].partition("=")[2]

    assert key(Settings(triton_admin_key="a=b:c")) == "a=b:c"
    drawn = {key(Settings(triton_host="0.0.0.0")) for _ in range(3)}
    assert len(drawn) == 3
    assert min(map(len, drawn)) >= 43


def test_the_key_is_not_printed() -> None:
    assert "geheim" not in repr(Settings(triton_admin_key="geheim"))
