"""The images hold what they promise, as far as that shows without a container engine."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from dockerfiles import (
    CONTAINER_USER,
    DOCKER,
    DOCKERFILES,
    FOREIGN,
    Dockerfile,
    compose,
    ignore_patterns,
    ignored,
    image,
    pinned,
    read,
    tool,
)
from fictures.settings import VARIABLES, Settings


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.parent.name)
def dockerfile(request: pytest.FixtureRequest) -> Dockerfile:
    return read(request.param)


# --- Dockerfiles ---


def test_there_are_three_images() -> None:
    assert [path.parent.name for path in DOCKERFILES] == ["cpu", "gateway", "gpu"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_passes_hadolint(path: Path) -> None:
    command = [tool("hadolint"), "--no-color", "--failure-threshold", "style", "--config", "/dev/null", path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_rule_that_is_ignored_has_its_reason_above_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if "hadolint" in line:
            assert above.startswith("# ")


def test_an_image_runs_as_a_user_that_is_not_root(dockerfile: Dockerfile) -> None:
    assert dockerfile.final.last("USER").value == f"{CONTAINER_USER}:{CONTAINER_USER}"
    assert any(f"useradd --uid {CONTAINER_USER} " in run.value for run in dockerfile.final.all("RUN"))


def test_an_image_starts_with_tini_which_collects_what_ended(dockerfile: Dockerfile) -> None:
    assert dockerfile.final.last("ENTRYPOINT").command[:2] == ["/usr/bin/tini", "--"]
    assert any("tini=" in run.value for run in dockerfile.final.all("RUN"))


def test_an_image_says_what_it_is_and_whether_it_is_well(dockerfile: Dockerfile) -> None:
    label = dockerfile.final.last("LABEL").value
    for name in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in label
    assert dockerfile.final.last("HEALTHCHECK").command


def test_a_base_image_has_a_tag_that_an_argument_sets(dockerfile: Dockerfile) -> None:
    stages = {stage.name for stage in dockerfile.stages}
    for stage in dockerfile.stages:
        name, _, tag = stage.base.partition(":")
        if stage.base in stages or stage.base.startswith("packages-"):
            continue
        assert name in ("python", "nvcr.io/nvidia/tritonserver")
        assert dockerfile.arguments[tag.strip("${}")] not in ("", "latest")


def test_what_a_dockerfile_copies_is_there_and_reaches_the_build(dockerfile: Dockerfile) -> None:
    patterns = ignore_patterns()
    sources = [source for stage in dockerfile.stages for copied, _ in stage.copies for source in copied]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        files = [ROOT / source] if (ROOT / source).is_file() else list((ROOT / source).rglob("*"))
        for file in files:
            path = str(file.relative_to(ROOT))
            assert ignored(path, patterns) == ("__pycache__" in path), path


def test_nothing_else_reaches_the_build() -> None:
    patterns = ignore_patterns()
    outside = (
        ".env",
        ".git/config",
        ".venv/bin/python",
        ".run/x",
        "docker/.env",
        "docker/compose.yaml",
        "tests/x",
        "new",
    )
    assert [path for path in outside if not ignored(path, patterns)] == []


def test_the_commands_that_make_an_environment_come_before_the_code(dockerfile: Dockerfile) -> None:
    """So that a change of code does not install vLLM anew."""
    copied = [source for sources, _ in dockerfile.final.copies for source in sources]
    assert not copied or copied[-1] == "scripts/launcher"
    last_install = max((i for i, each in enumerate(dockerfile.final.instructions) if each.keyword == "RUN"), default=0)
    first_copy = min(i for i, each in enumerate(dockerfile.final.instructions) if each.keyword == "COPY")
    assert last_install < first_copy


def test_the_gateway_has_no_tools_to_build_with() -> None:
    installed = " ".join(run.value for run in image("gateway").final.all("RUN"))
    assert re.findall(r'"([\w+-]+)=', installed) == ["tini"]
    assert "pip" not in installed
    assert "uv" not in installed


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_server_image_is_asked_and_started_by_the_launchers_own_modules(name: str) -> None:
    final = image(name).final
    for command in (final.last("CMD").command, final.last("HEALTHCHECK").command):
        python, minus_m, module = command
        assert (python, minus_m) == ("python3", "-m")
        place = ROOT / "scripts" / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    destinations = {destination.rstrip("/") for _, destination in final.copies}
    assert {"backends", "model_repository", "scripts/launcher", "docker/entrypoint.sh"} <= destinations


def test_the_gpu_image_serves_what_the_model_repository_names() -> None:
    environment = image("gpu").final.environment
    for variable, model in (("TEXT_MODEL_NAME", "gemma"), ("IMAGE_MODEL_NAME", "sdxl_stream")):
        settings = json.loads((ROOT / f"model_repository/{model}/1/model.json").read_text())
        assert environment[variable] == settings["model"]


# --- settings ---


def test_every_variable_of_an_image_is_known(dockerfile: Dockerfile) -> None:
    for stage in dockerfile.stages:
        assert set(stage.environment) <= {*VARIABLES, *FOREIGN}


def test_an_images_settings_are_right(dockerfile: Dockerfile, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    Settings(**{name.lower(): value for name, value in dockerfile.final.environment.items() if name in VARIABLES})


# --- docs/containers.md ---

PAGE = ROOT / "docs/containers.md"


def test_the_page_names_every_variable_of_compose() -> None:
    page = PAGE.read_text()
    for name in set(re.findall(r"\$\{(FICTURES_\w+|HF_TOKEN_FILE)", (DOCKER / "compose.yaml").read_text())):
        assert f"`{name}`" in page, name


def test_the_page_says_which_vllm_the_tag_of_the_image_has_and_which_is_tested() -> None:
    page = PAGE.read_text()
    tag = image("gpu").arguments["TRITON_TAG"].removesuffix("-vllm-python-py3")
    assert re.search(rf"^\| `{re.escape(tag)}` \| 0\.\d+\.\d+ \|", page, re.MULTILINE)
    assert f"vLLM {pinned(DOCKER / 'gpu/requirements.lock')['vllm']}" in page


def test_the_pages_compose_commands_name_profiles_that_there_are() -> None:
    profiles = {profile for service in compose()["services"].values() for profile in service["profiles"]}
    assert set(re.findall(r"--profile (\w+)", PAGE.read_text())) == profiles
