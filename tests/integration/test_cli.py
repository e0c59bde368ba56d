"""The command line and the request examples against the real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

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


@pytest.mark.parametrize(
    "example",
    [
        "text_client.py",
        "text_tritonclient.py",
        "text_curl.sh",
        "image_client.py",
        "image_tritonclient_http.py",
        "image_tritonclient_grpc.py",
        "image_curl.sh",
    ],
)
def test_the_request_examples_run_as_they_are(server: Server, example: str, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    arguments = [str(file)] if example.startswith("image") else []
    result = run(server, ROOT / "scripts/examples" / example, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert not arguments or Image.open(file).size == (256, 256)


def test_image_writes_files_and_previews_and_says_how_to_make_them_again(server: Server, tmp_path: Path) -> None:
    output = tmp_path / "boat.webp"
    options = ["--width", "256", "--height", "320", "--steps", "4", "--seed", "7", "--preview-every", "2", "--json"]
    result = run(server, "fictures", "image", "a boat", "-o", str(output), "--num-images", "2", *options)
    assert (result.returncode, result.stderr) == (0, "")
    made = json.loads(result.stdout)
    assert made["seeds"] == [7, 8]
    assert [Path(file).name for file in made["files"]] == ["boat-1.webp", "boat-2.webp"]
    assert {Image.open(file).size for file in made["files"]} == {(256, 320)}
    assert Image.open(tmp_path / "boat-1.preview.jpg").size == (32, 40)
