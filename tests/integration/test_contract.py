"""The tensor contract of NVIDIA's vLLM backend, point by point, and what ours adds to it."""

import json
import queue
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from conftest import Server, loaded_model, wait_for
from fictures import Client

PROMPT = "Once upon a time"


def post(server: Server, endpoint: str = "generate", model: str = "gemma", **body: Any) -> httpx.Response:
    url = f"{server.http_url}/v2/models/{model}/{endpoint}"
    return httpx.post(url, json={"text_input": PROMPT, "temperature": 0} | body, timeout=60)


def generate(server: Server, **body: Any) -> dict[str, Any]:
    answer = post(server, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(server: Server, **body: Any) -> list[dict[str, Any]]:
    answer = post(server, "generate_stream", **{"stream": True, **body})
    assert answer.status_code == 200, answer.text
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]


def test_the_prompt_is_prepended_unless_excluded(server: Server) -> None:
    with_prompt = generate(server)["text_output"]
    without = generate(server, exclude_input_in_output=True)["text_output"]
    assert with_prompt == PROMPT + without
    assert generate(server, exclude_input_in_output=False)["text_output"] == with_prompt


def test_a_stream_is_deltas_without_the_prompt(server: Server) -> None:
    pieces = events(server, max_tokens=12, ignore_eos=True)
    assert len(pieces) > 1
    whole = generate(server, max_tokens=12, ignore_eos=True, exclude_input_in_output=True)["text_output"]
    assert "".join(piece["text_output"] for piece in pieces) == whole


def test_asking_for_the_prompt_in_a_stream_is_an_error(server: Server) -> None:
    answer = post(server, "generate_stream", stream=True, exclude_input_in_output=False)
    assert "exclude_input_in_output: False is not allowed" in answer.text


def test_additional_outputs_are_absent_unless_asked_for(server: Server) -> None:
    assert set(generate(server)) == {"model_name", "model_version", "text_output"}


def test_additional_outputs(server: Server) -> None:
    flags = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens", "num_output_tokens")
    answer = generate(server, max_tokens=3, ignore_eos=True, logprobs=2, **{f"return_{flag}": True for flag in flags})
    assert answer["finish_reason"] == "length"
    assert answer["num_output_tokens"] == 3
    assert answer["num_input_tokens"] > 1
    tokens = json.loads(answer["logprobs"])
    assert len(tokens) == 3
    chosen = [next(iter(token.values())) for token in tokens]
    assert {"logprob", "rank", "decoded_token"} == set(chosen[0])
    assert all(len(token) >= 2 for token in tokens)
    assert answer["cumulative_logprob"] == pytest.approx(sum(item["logprob"] for item in chosen), abs=1e-3)


@pytest.mark.parametrize("output", ["text_output", "finish_reason"])
def test_only_the_outputs_that_a_request_names_are_answered(server: Server, output: str) -> None:
    def asked(name: str, value: bool | str) -> triton_grpc.InferInput:
        is_flag = isinstance(value, bool)
        tensor = triton_grpc.InferInput(name, [1], "BOOL" if is_flag else "BYTES")
        tensor.set_data_from_numpy(np.array([value if is_flag else value.encode()], dtype=bool if is_flag else object))
        return tensor

    values = {"text_input": PROMPT, "stream": True, "return_finish_reason": True, "return_num_input_tokens": True}
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        wanted = [triton_grpc.InferRequestedOutput(output)]
        client.async_stream_infer("gemma", [asked(*item) for item in values.items()], outputs=wanted)
        client.stop_stream()
    responses = [answers.get_nowait() for _ in range(answers.qsize())]

    assert responses
    assert not any(error for _, error in responses)
    assert {tensor.name for result, _ in responses for tensor in result.get_response().outputs} == {output}


def test_finish_reason_is_none_as_text_while_a_stream_runs(server: Server) -> None:
    pieces = events(server, max_tokens=4, ignore_eos=True, return_finish_reason=True, return_num_output_tokens=True)
    assert [piece["finish_reason"] for piece in pieces] == ["None"] * (len(pieces) - 1) + ["length"]
    assert sum(piece["num_output_tokens"] for piece in pieces) == 4


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_leaves_out_what_says_nothing_new_if_asked_to(server: Server, n: int) -> None:
    flags = {f"return_{name}": True for name in ("finish_reason", "num_input_tokens", "num_output_tokens")}
    body = {"n": n, "temperature": 1, "seed": 7, "max_tokens": 9, "ignore_eos": True, "stream_interval_ms": 0} | flags
    pieces = events(server, omit_unchanged_outputs=True, **body)
    assert [number for number, piece in enumerate(pieces) if "num_input_tokens" in piece] == [0]
    told = [piece["finish_reason"] for piece in pieces if "finish_reason" in piece]
    assert 1 <= len(told) <= n < len(pieces), "each text may end in a response of its own"
    assert told[-1] == pieces[-1]["finish_reason"] == ("length" if n == 1 else ["length"] * n)
    assert all("num_output_tokens" in piece for piece in pieces)
    texts = ["".join(text) for text in zip(*(np.atleast_1d(piece["text_output"]) for piece in pieces), strict=True)]
    whole = generate(server, exclude_input_in_output=True, omit_unchanged_outputs=True, **body)
    assert texts == np.atleast_1d(whole["text_output"]).tolist()
    assert {"finish_reason", "num_input_tokens", "num_output_tokens"} <= whole.keys(), "in one piece it has them all"


def test_the_sampling_parameters_tensor_wins_over_request_parameters(server: Server) -> None:
    answer = generate(
        server,
        max_tokens=9,
        sampling_parameters='{"max_tokens": "2", "ignore_eos": true}',
        return_num_output_tokens=True,
    )
    assert answer["num_output_tokens"] == 2


def test_n_outputs_come_as_n_elements(server: Server) -> None:
    body = {"n": 3, "temperature": 1, "seed": 7, "max_tokens": 5, "ignore_eos": True}
    whole = generate(server, exclude_input_in_output=True, return_finish_reason=True, **body)
    assert len(whole["text_output"]) == 3
    assert whole["finish_reason"] == ["length"] * 3
    pieces = events(server, return_finish_reason=True, **body)
    joined = ["".join(piece["text_output"][i] for piece in pieces) for i in range(3)]
    assert joined == whole["text_output"]
    assert pieces[-1]["finish_reason"] == ["length"] * 3


def test_stream_interval_puts_several_tokens_in_a_response(server: Server) -> None:
    pieces = events(server, max_tokens=21, ignore_eos=True, stream_interval=10, return_num_output_tokens=True)
    assert [piece["num_output_tokens"] for piece in pieces] == [1, 10, 10]


def test_a_chat_is_rendered_with_the_models_own_template(server: Server) -> None:
    messages = [{"role": "user", "content": "Tell me about the sea"}]
    chat = generate(server, text_input="", messages=json.dumps(messages), max_tokens=8, return_num_input_tokens=True)
    # The template writes <bos> itself; a prompt gets it from the tokenizer.
    prompt = "<start_of_turn>user\nTell me about the sea<end_of_turn>\n<start_of_turn>model\n"
    plain = generate(
        server, text_input=prompt, max_tokens=8, exclude_input_in_output=True, return_num_input_tokens=True
    )
    assert chat["text_output"] == plain["text_output"]
    assert chat["num_input_tokens"] == plain["num_input_tokens"]


def test_chat_template_kwargs_reach_the_template(server: Server) -> None:
    messages = json.dumps([{"role": "user", "content": "The sea"}, {"role": "assistant", "content": "Once"}])
    body = {"text_input": "", "messages": messages, "return_num_input_tokens": True}
    asked = generate(server, **body)["num_input_tokens"]
    kwargs = json.dumps({"add_generation_prompt": False})
    assert generate(server, chat_template_kwargs=kwargs, **body)["num_input_tokens"] < asked


BAD_INPUT = [
    ({"temperature": "hot"}, "temperature: 'hot' is not allowed"),
    ({"temperature": 3}, "temperature: 3 is not allowed"),
    ({"bogus": 1}, "bogus: 1 is not allowed: there is no such sampling parameter"),
    ({"max_tokens": 0}, "max_tokens: 0 is not allowed"),
    ({"logprobs": 21}, "logprobs: 21 is not allowed"),
    ({"stop_token_ids": "[99999999]"}, "stop_token_ids: 99999999 is not allowed"),
    ({"logit_bias": '{"99999999": 1}'}, "logit_bias: 99999999 is not allowed"),
    ({"sampling_parameters": "{"}, "sampling_parameters: '{' is not allowed: JSON"),
    ({"sampling_parameters": "[1]"}, "sampling_parameters: [1] is not allowed: a JSON object"),
    ({"structured_outputs": '{"regex": "("}'}, "structured_outputs: "),
    ({"lora_name": "nobody"}, "lora_name: 'nobody' is not allowed: this model serves no LoRA adapters"),
    ({"text_input": ""}, "text_input: '' is not allowed"),
    ({"text_input": "word " * 5000}, "text_input: This model's maximum context length is 4096"),
    ({"text_input": "a" * 10_000_000}, "text_input: "),
    ({"messages": "[]", "text_input": ""}, "messages: [] is not allowed"),
    ({"messages": "[1]", "text_input": ""}, "messages.0: 1 is not allowed"),
    ({"messages": '[{"role": "user", "content": "a"}]'}, "text_input: 'Once upon a time' is not allowed"),
    ({"messages": '[{"role": "tool", "content": "a"}]', "text_input": ""}, "messages: "),
    ({"messages": '[{"role": "user", "content": "\\ud83d"}]', "text_input": ""}, "messages: "),
    ({"messages": "[" * 100_000, "text_input": ""}, "messages: "),
    ({"chat_template_kwargs": "{}"}, "chat_template_kwargs: {} is not allowed: only together with messages"),
    ({"image": "abc"}, "image: "),
    ({"health_check": "maybe"}, "health_check: 'maybe' is not allowed"),
    ({"omit_unchanged_outputs": "maybe"}, "omit_unchanged_outputs: 'maybe' is not allowed"),
]


@pytest.mark.parametrize(("body", "message"), BAD_INPUT)
def test_bad_input_names_what_is_wrong_and_harms_nothing(server: Server, body: dict[str, Any], message: str) -> None:
    answer = post(server, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(message)
    streamed = post(server, "generate_stream", stream=True, **body)
    assert message in streamed.text.replace("\\\\", "\\").replace('\\"', '"')
    assert server.is_serving()


@pytest.mark.parametrize(
    "body",
    [{"structured_outputs": '{"json": {"const": 1180591620717411303424}}'}, {"stop": "[" * 5000}],
)
def test_odd_but_valid_input_is_served(server: Server, body: dict[str, Any]) -> None:
    generate(server, max_tokens=2, **body)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"stream": "yes"}, "attempt to access JSON non-boolean as boolean"),
        ({"text_input": [PROMPT, PROMPT]}, "input 'text_input' to tensor with proper shape"),
    ],
)
def test_triton_itself_refuses_wrong_types_and_shapes(server: Server, tensor: dict[str, Any], message: str) -> None:
    assert message in post(server, **tensor).json()["error"]
    assert server.is_serving()


def test_vllms_metrics_are_on_tritons_metrics_port(server: Server) -> None:
    def generated() -> float:
        return server.metric("vllm:generation_tokens_total", model="gemma")

    before = generated()
    generate(server, max_tokens=30, ignore_eos=True)
    wait_for(lambda: generated() >= before + 30, 30, "30 more generated tokens in the metrics")
    text = httpx.get(server.metrics_url, timeout=10).text
    for name in ("vllm:time_to_first_token_seconds_bucket", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
        assert f"{name}{{" in text


def test_two_instances_of_a_model_serve_drain_at_unload_and_load_again(server: Server) -> None:
    long = {"max_tokens": 300, "ignore_eos": True, "temperature": 0.0}
    twins = {"max_num_seqs": 8, "enforce_eager": True}
    with loaded_model(server, "twins", twins, instances=2), Client(server.grpc_url) as client:
        control = f"{server.http_url}/v2/repository/models/twins"
        (expected,) = {client.generate_text(PROMPT, model="twins", **long).text for _ in range(4)}

        with client.stream_text(PROMPT, model="twins", **long) as chunks:
            text = next(chunks).text
            httpx.post(f"{control}/unload", timeout=60).raise_for_status()
            text += "".join(chunk.text for chunk in chunks)
        assert text == expected, "a stream that runs while its model is unloaded comes to its own end"
        wait_for(lambda: post(server, model="twins").status_code != 200, 120, "unloaded")

        httpx.post(f"{control}/load", timeout=240).raise_for_status()
        assert client.generate_text(PROMPT, model="twins", **long).text == expected
