"""What `fictures translate` is given may be anything; what is wrong with it is said in a line."""

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

from fictures.cli import app

BODY = {"prompt": "Once"}


def translate(text: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["translate", *options], input=text)


@pytest.mark.parametrize("url", [[], {}, None, 7, "/v1/nothing"])
def test_what_is_no_endpoint_is_named(url: object) -> None:
    result = translate(json.dumps({"url": url, "body": BODY}))
    assert result.exit_code != 0
    assert "is not an endpoint" in result.stderr


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1}\n' + "[" * 100_000])
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    result = translate(text, "--endpoint", "/v1/completions")
    assert result.exit_code != 0
    assert "nested too deeply" in result.stderr


def test_where_the_requests_are_posted_is_said_beside_them() -> None:
    urls = ["/api/v1/text/generate", "/api/v1/text/generate", "/api/v1/text/stream", "/api/v1/images/generate"]
    result = translate("\n".join(json.dumps({"url": url, "body": BODY}) for url in urls))
    bodies = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["stream" in body for body in bodies] == [True, True, True, False]
    assert result.stderr.splitlines() == [
        "POST /v2/models/gemma/generate",
        "POST /v2/models/gemma/generate_stream",
        "POST /v2/models/sdxl/infer",
    ]


def test_a_command_takes_a_body_of_any_length() -> None:
    words = "'it's' $HOME \\\n" + "x" * 3_000_000
    printed = translate(json.dumps({"prompt": words}), "--endpoint", "/api/v1/text/generate", "--curl").stdout
    run = subprocess.run(["sh"], input=f"curl() {{ cat; }}\n{printed}", capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["text_input"] == words


@pytest.mark.parametrize("requests", [1, 2])
def test_a_terminal_shows_how_far_several_requests_are_and_the_output_only_their_answers(requests: int) -> None:
    lines = [json.dumps({"custom_id": str(number), "url": "/v1/completions", "body": {}}) for number in range(requests)]
    shown, terminal = pty.openpty()
    command = [sys.executable, "-c", "from fictures.cli import app; app()", "translate", "--send"]
    run = subprocess.run(
        command,
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(terminal)
    assert run.returncode == 1, "no such requests can be sent"
    assert [json.loads(line)["custom_id"] for line in run.stdout.splitlines()] == [str(n) for n in range(requests)]
    assert ("sending" in read_all(shown)) is (requests > 1)


def read_all(descriptor: int) -> str:
    found = b""
    with contextlib.suppress(OSError), open(descriptor, "rb", buffering=0) as file:  # how a terminal ends
        while piece := file.read(4096):
            found += piece
    return found.decode()


def test_an_answer_to_a_request_whose_id_has_no_utf8_form_is_written_all_the_same() -> None:
    line = json.dumps({"custom_id": "\ud800", "url": "/api/v1/text/generate", "body": BODY})
    result = translate(line, "--send", "--url", "127.0.0.1:1")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["custom_id"] == "\ud800"
