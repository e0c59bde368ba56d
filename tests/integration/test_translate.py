"""`./scripts/translate`: what it prints, Triton takes; what it sends is answered as the gateway answers."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Server

BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/text/generate": {"prompt": "Once", "max_tokens": 4, "temperature": 0},
    "/api/v1/text/stream": {"prompt": "Once", "max_tokens": 4, "temperature": 0},
    "/api/v1/text/structured": {"prompt": "?", "guided_decoding": {"type": "choice", "choice": ["yes", "no"]}},
    "/api/v1/images/generate": {"prompt": "a", "width": 256, "height": 256, "num_inference_steps": 2, "seed": 1},
    "/api/v1/images/stream": {"prompt": "a", "width": 256, "height": 256, "num_inference_steps": 2, "seed": 1},
    "/v1/chat/completions": {"model": "gemma", "messages": [{"role": "user", "content": "it's"}], "max_tokens": 4},
    "/v1/completions": {"model": "gemma", "prompt": ["a", "b"], "max_tokens": 4, "stream": True},
    "/v1/images/generations": {"prompt": "a", "size": "256x256", "num_inference_steps": 2},
}


def translate(server: Server, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/translate", *arguments], input=text, env=server.env, capture_output=True, text=True, timeout=90
    )


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_printed_request_is_one_that_triton_answers(server: Server, endpoint: str) -> None:
    run = translate(
        server, "--endpoint", endpoint, "--curl", "--http-url", server.http_url, text=json.dumps(BODIES[endpoint])
    )
    assert run.returncode == 0, run.stderr
    for command in run.stdout.split("\nEND\n")[:-1]:
        answer = subprocess.run(f"{command}\nEND\n", shell=True, capture_output=True, text=True, timeout=60).stdout
        assert '"text_output"' in answer or '"image"' in answer
        assert '"error"' not in answer


def test_a_batch_is_sent_and_answered_in_its_order(server: Server, tmp_path: Path) -> None:
    lines = [
        {"custom_id": f"{number}-{url}", "method": "POST", "url": url, "body": body}
        for number in range(3)
        for url, body in BODIES.items()
    ]
    lines.append({"custom_id": "bad", "url": "/v1/completions", "body": {"model": "nobody", "prompt": "a"}})
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = translate(server, "--send", str(tmp_path / "batch.jsonl"))
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]
    assert [answer["error"] for answer in answers[:-1]] == [None] * (len(lines) - 1)
    assert answers[-1]["error"]["code"] == 404
    assert run.returncode == 1, "one failed"
    by_id = {answer["custom_id"]: answer["response"]["body"] for answer in answers[:-1]}
    streamed = by_id["0-/api/v1/text/stream"]
    assert "".join(event["text"] for event in streamed) == by_id["0-/api/v1/text/generate"]["text"]
    assert by_id["0-/api/v1/images/stream"][-1]["seed"] == by_id["0-/api/v1/images/generate"]["seed"] == 1


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        ([], '{"prompt": "a"}', "--endpoint"),
        (["--endpoint", "/v1/nothing"], '{"prompt": "a"}', "'/v1/nothing' is not an endpoint: one of /api/v1/text"),
        (["--endpoint", "/v1/completions"], '{"prompt": "a"}', "model: Field required"),
        (["--endpoint", "/v1/completions"], '{"prompt": \n{"a": 1}', "line 1: is not JSON"),
        (["--endpoint", "/v1/completions"], "", "there is no request"),
        (["no-such-file"], "", "no-such-file: cannot be read"),
    ],
)
def test_what_is_wrong_with_the_input_is_said(server: Server, arguments: list[str], text: str, words: str) -> None:
    run = translate(server, *arguments, text=text)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr
