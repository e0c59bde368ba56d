"""The command line as a person runs it: a process of its own, its output and its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_triton import FakeTriton

FICTURES = [str(Path(sys.executable).parent / "fictures")]


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


def run(
    *arguments: str, cwd: Path | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        FICTURES + list(arguments),
        input=stdin,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """What is on standard error, which has to be one line that names the program."""
    assert result.stderr.startswith("fictures: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("fictures: ").strip()


# Text


def test_text_prints_the_text(triton: FakeTriton) -> None:
    result = run("text", "hello", "--url", triton.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "one two\n", "")
    assert triton.inputs()["stream"] is True


def test_text_reads_the_prompt_from_standard_input(triton: FakeTriton) -> None:
    assert run("text", "-", "--url", triton.url, "--no-stream", stdin="hello there").stdout == "one two\n"
    assert triton.inputs()["text_input"] == "hello there"


def test_text_prints_one_json_object(triton: FakeTriton) -> None:
    assert json.loads(run("text", "hello", "--url", triton.url, "--json").stdout) == {
        "text": "one two",
        "finish_reason": "stop",
        "num_input_tokens": 7,
        "num_output_tokens": 4,
        "model": "gemma",
    }


def test_text_passes_the_sampling_parameters_on(triton: FakeTriton) -> None:
    options = ["--max-tokens", "9", "--temperature", "0", "--top-p", "0.5", "--stop", "a", "--stop", "b", "--seed", "1"]
    run("text", "hello", "--url", triton.url, *options, "--lora", "poet", "--param", "top_k=4", "--param", "name=x=y")
    assert json.loads(triton.inputs()["sampling_parameters"]) == {
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["a", "b"],
        "seed": 1,
        "lora_name": "poet",
        "top_k": 4,
        "name": "x=y",
    }


# Chat


def test_chat_answers_one_message(triton: FakeTriton) -> None:
    result = run("chat", "hi", "--system", "be brief", "--url", triton.url)
    assert (result.returncode, result.stdout) == (0, "one two\n")
    assert json.loads(triton.inputs()["messages"]) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_chat_without_a_message_keeps_the_history(triton: FakeTriton) -> None:
    result = run("chat", "--url", triton.url, stdin="hi\n\nand you\n")
    assert (result.returncode, result.stdout) == (0, "one two\none two\n")
    assert [message["content"] for message in json.loads(triton.inputs()["messages"])] == ["hi", "one two", "and you"]


def test_chat_template_variables_must_be_an_object(triton: FakeTriton) -> None:
    run("chat", "hi", "--chat-template-kwargs", '{"thinking": true}', "--url", triton.url)
    assert json.loads(triton.inputs()["chat_template_kwargs"]) == {"thinking": True}
    result = run("chat", "hi", "--chat-template-kwargs", "[]", "--url", triton.url)
    assert result.returncode == 2
    assert "must be a JSON object" in one_line(result)


# Models and health


def test_models_lists_the_models(triton: FakeTriton) -> None:
    table = run("models", "--url", triton.url)
    assert table.returncode == 0
    assert "gemma" in table.stdout
    assert "ready" in table.stdout
    (model,) = json.loads(run("models", "--json", "--url", triton.url).stdout)
    assert (model["name"], model["ready"]) == ("gemma", True)


def test_health_says_so_and_its_exit_code_too(triton: FakeTriton) -> None:
    healthy = run("health", "--url", triton.url)
    assert (healthy.returncode, healthy.stdout) == (0, "gemma: ready\nhealthy\n")
    triton.probe_error = "the text engine is restarting; try again in some seconds"
    unhealthy = run("health", "--json", "--url", triton.url)
    assert unhealthy.returncode == 3
    assert json.loads(unhealthy.stdout)["models"] == {"gemma": triton.probe_error}


# Where the server is


def test_the_server_comes_from_the_environment_or_the_env_file(triton: FakeTriton, tmp_path: Path) -> None:
    assert run("text", "hello", TRITON_URL=triton.url).stdout == "one two\n"
    (tmp_path / ".env").write_text(f"TRITON_URL={triton.url}\n")
    assert run("text", "hello", cwd=tmp_path, TRITON_URL="").stdout == "one two\n"


def test_nothing_else_is_read_from_either(triton: FakeTriton, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"LOG_LEVEL=trace\nTEXT_MODLE=x\nnot an assignment\nTRITON_URL={triton.url}\n")
    result = run("text", "hello", cwd=tmp_path, TRITON_URL="", API_PORT="web")
    assert (result.returncode, result.stdout, result.stderr) == (0, "one two\n", "")
    (tmp_path / ".env").write_text(f"TRITON_GRPC_PORT={triton.url.rpartition(':')[2]}\n")
    assert run("text", "hello", cwd=tmp_path, TRITON_URL="", TRITON_GRPC_PORT="").stdout == "one two\n"


def test_the_api_key_may_come_from_the_environment(triton: FakeTriton) -> None:
    run("text", "hello", "--url", triton.url, FICTURES_API_KEY="secret")
    assert triton.metadata["authorization"] == "Bearer secret"


# How a command ends


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("abort INTERNAL", 1),
        ("unfinished", 1),
        ("abort INVALID_ARGUMENT", 2),
        ("abort NOT_FOUND", 2),
        ("abort UNAUTHENTICATED", 2),
        ("abort UNAVAILABLE", 3),
        ("silent", 4),
    ],
)
def test_each_failure_is_one_line_and_its_exit_code(prompt: str, code: int, triton: FakeTriton) -> None:
    result = run("text", prompt, "--url", triton.url, "--timeout", "1", "--no-stream")
    assert result.returncode == code
    assert one_line(result)


def test_a_server_that_is_not_there_is_exit_code_3() -> None:
    result = run("text", "hello", "--url", "127.0.0.1:1")
    assert result.returncode == 3
    assert "127.0.0.1:1" in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--param", "top_k"], "--param top_k: must be NAME=VALUE"),
        (["--url", "http://127.0.0.1:8001"], "must be host:port"),
        (["--timeout", "0"], "timeout=0.0: must be a number of seconds above 0"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str) -> None:
    result = run("text", "hello", *arguments)
    assert result.returncode == 2
    assert words in one_line(result)


def test_a_wrong_setting_is_exit_code_2() -> None:
    result = run("text", "hello", TRITON_URL="", TRITON_GRPC_PORT="web")
    assert result.returncode == 2
    assert one_line(result) == "TRITON_GRPC_PORT=web: must be a whole number from 1 to 65535"


def test_interrupting_cancels_the_request_and_is_exit_code_130(triton: FakeTriton) -> None:
    def heed_interrupts() -> None:
        # What a shell starts in the background ignores them, and so does what that starts: such as a test run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [*FICTURES, "text", "endless", "--url", triton.url]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=heed_interrupts) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "more "
        process.send_signal(signal.SIGINT)
        assert triton.cancelled.wait(5)
        assert process.wait(5) == 130
        assert "Traceback" not in process.stderr.read()


def test_a_reader_that_has_enough_ends_the_command_quietly(triton: FakeTriton) -> None:
    command = [*FICTURES, "text", "endless", "--url", triton.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.wait(5) == 0
        assert process.stderr.read() == ""
    assert triton.cancelled.wait(5)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    seconds = []
    for _ in range(3):  # the quickest, as other work of the machine slows one down
        began = time.monotonic()
        assert "Exit codes" in run("--help").stdout
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 2
    code = "import sys, fictures.cli; print({'PIL', 'grpc', 'numpy', 'pydantic', 'tritonclient'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
