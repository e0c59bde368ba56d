"""The command line and the request examples against the real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Server

BIN = Path(sys.executable).parent


def run(server: Server, *command: str | Path) -> subprocess.CompletedProcess[str]:
    env = server.env | {"TRITON_URL": server.grpc_url, "PATH": f"{BIN}:{server.env['PATH']}", "NO_COLOR": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_text_streams_a_text(server: Server) -> None:
    result = run(server, "fictures", "text", "The harbour", "--max-tokens", "8", "--temperature", "0")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip()


def test_text_prints_json(server: Server) -> None:
    result = run(server, "fictures", "text", "The harbour", "--max-tokens", "8", "--json", "--param", "ignore_eos=true")
    answer = json.loads(result.stdout)
    assert (answer["num_output_tokens"], answer["finish_reason"], answer["model"]) == (8, "length", "gemma")


def test_chat_answers(server: Server) -> None:
    result = run(server, "fictures", "chat", "Hello", "--max-tokens", "8", "--temperature", "0")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip()


def test_models_and_health(server: Server) -> None:
    models = json.loads(run(server, "fictures", "models", "--json").stdout)
    assert "gemma" in [model["name"] for model in models]
    health = run(server, "fictures", "health")
    assert health.returncode == 0, health.stdout


def test_a_refused_request_is_one_line_and_exit_code_2(server: Server) -> None:
    result = run(server, "fictures", "text", "Hello", "--temperature", "-1")
    assert result.returncode == 2
    assert "temperature" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("example", ["text_client.py", "text_tritonclient.py", "text_curl.sh"])
def test_the_request_examples_run_as_they_are(server: Server, example: str) -> None:
    result = run(server, ROOT / "scripts/examples" / example)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
