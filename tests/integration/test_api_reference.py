"""The examples of docs/api-reference.md run as they stand there, but for the port; and the page leaves nothing out."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from openai.types import completion_create_params, image_generate_params
from openai.types.chat import completion_create_params as chat_create_params

from conftest import ROOT, Server

PAGE = "docs/api-reference.md"
SHOWN = "127.0.0.1:9000"
MODEL = "gemma"
NOT_IN_THE_DOCUMENT = ("/openapi.json", "/docs", "/")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python": (str(ROOT / ".venv/bin/python"), "example.py"),
    "javascript": ("node", "example.mjs"),
    "bash": ("bash", "-eo", "pipefail", "example.sh"),
}


class Example(NamedTuple):
    """A block of code that can be run."""

    heading: str
    language: str
    code: str


def examples(page: str) -> Iterator[Example]:
    heading = ""
    for part in re.split(r"^(#+ .*\n)", (ROOT / page).read_text(), flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.lstrip("#").strip().replace("`", "")
        for language, code in re.findall(rf"```({'|'.join(COMMANDS)})\n(.*?)```", part, re.DOTALL):
            yield Example(heading, language, code)


REFERENCE = list(examples(PAGE))
ELSEWHERE = [example for example in examples("README.md") if SHOWN in example.code]


@pytest.mark.parametrize("example", [pytest.param(one, id=f"{one[0]}-{one[1]}") for one in REFERENCE + ELSEWHERE])
def test_an_example_works(server: Server, example: Example, tmp_path: Path) -> None:
    if example.language == "javascript" and shutil.which("node") is None:
        pytest.skip("node is not installed: the JavaScript examples cannot run")
    command = COMMANDS[example.language]
    (tmp_path / command[-1]).write_text(example.code.replace(SHOWN, f"127.0.0.1:{server.ports['api']}"))
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=server.env | {"PATH": f"{ROOT / '.venv/bin'}:{server.env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.strip()
    assert "undefined" not in run.stdout, "what JavaScript prints of a field that there is not"


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    return httpx.get(f"{server.api_url}/openapi.json", timeout=10).raise_for_status().json()


def test_every_path_has_an_example_in_each_language(document: dict[str, Any]) -> None:
    endpoints = [("Service", path) for path in NOT_IN_THE_DOCUMENT]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            heading = "Service" if "Service" in operation["tags"] else f"{method.upper()} {path}"
            endpoints.append((heading, path.replace("{model}", MODEL)))
    for heading, path in endpoints:
        languages = {example.language for example in REFERENCE if example.heading == heading and asks(example, path)}
        assert languages == set(COMMANDS), f"{heading}: {path}"


def asks(example: Example, path: str) -> bool:
    """Whether an example uses an endpoint: this one, not one whose path goes on. OpenAI's SDK does not name it."""
    if path.startswith("/v1/") and "from openai import" in example.code:
        return True
    return re.search(rf"{re.escape(SHOWN + path)}(?=[\s\"'?]|\Z)", example.code) is not None


def test_every_field_of_a_body_is_in_a_table(document: dict[str, Any]) -> None:
    fictures, openai = (ROOT / PAGE).read_text().split("\n## OpenAI API\n")
    for path, methods in document["paths"].items():
        if "post" in methods:
            described = named_in_first_cells(openai if path.startswith("/v1/") else fictures)
            schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            fields = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
            assert set(fields) <= described, path


@pytest.mark.parametrize(
    "parameters",
    [
        chat_create_params.CompletionCreateParamsBase,
        completion_create_params.CompletionCreateParamsBase,
        image_generate_params.ImageGenerateParamsBase,
    ],
)
def test_every_parameter_of_openai_is_said_to_be_supported_or_not(parameters: type) -> None:
    _, _, rest = (ROOT / PAGE).read_text().partition("### What is supported of OpenAI's API\n")
    table, _, _ = rest.partition("\n## ")
    assert set(parameters.__annotations__) <= named_in_first_cells(table)


def test_every_metric_is_described(server: Server) -> None:
    text = httpx.get(f"{server.api_url}/metrics", timeout=10).text
    metrics = {name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.endswith("_created")}
    section = (ROOT / "docs/gateway.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert metrics == named_in_first_cells(section)


def named_in_first_cells(text: str) -> set[str]:
    """What the tables of a text are about."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
