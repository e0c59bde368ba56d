"""The commands that the documentation shows work as they stand there, but for the ports."""

import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, Server

SETUP = ("./scripts/", "make_tiny_", "TEXT_MODEL_NAME", "IMAGE_MODEL_NAME", "lora_name", "git diff", "fictures chat\n")
PAGES = ("quickstart", "client", "text-model", "image-model", "models")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands() -> list[str]:
    """Single commands of the pages that want a running server."""
    found = []
    for page in ("README.md", *(f"docs/{name}.md" for name in PAGES)):
        for block in blocks(page, "bash") + blocks(page, "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if line and not any(word in line + "\n" for word in SETUP)]
    return found


def with_ports(text: str, server: Server) -> str:
    ports = server.ports
    return text.replace(":8000", f":{ports['http']}").replace(":8001", f":{ports['grpc']}")


@pytest.mark.parametrize("command", commands())
def test_a_shown_command_works(server: Server, command: str) -> None:
    path = f"{ROOT / '.venv/bin'}:{server.env['PATH']}"
    run = subprocess.run(
        with_ports(command, server),
        shell=True,
        cwd=ROOT,
        env=server.env | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert '"error"' not in run.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/client.md"])
def test_the_first_python_example_works(server: Server, page: str, tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text(with_ports(blocks(page, "python")[0], server))
    run = subprocess.run([ROOT / ".venv/bin/python", example], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
