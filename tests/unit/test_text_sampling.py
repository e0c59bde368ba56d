"""The sampling parameters of the vLLM backend: what is taken, what is refused and how the refusal reads."""

import re
from pathlib import Path

import pytest

from text_backend.errors import InvalidArgument
from text_backend.sampling import SamplingRequest

ROOT = Path(__file__).resolve().parents[2]


def parse(**parameters):
    return SamplingRequest.parse(parameters, {"bold": "/adapters/bold"})


def test_values_may_come_as_text():
    sampling = parse(
        temperature="0",
        max_tokens="12",
        ignore_eos="true",
        stop='["a", "b"]',
        stop_token_ids="[7]",
        logit_bias='{"5": -1}',
    )
    assert (sampling.temperature, sampling.max_tokens, sampling.ignore_eos) == (0.0, 12, True)
    assert (sampling.stop, sampling.stop_token_ids, sampling.logit_bias) == (["a", "b"], [7], {5: -1.0})


def test_a_stop_that_only_looks_like_json_is_a_text():
    assert parse(stop="[").stop == ["["]


def test_null_is_the_same_as_absent():
    assert parse(temperature=None) == parse()


@pytest.mark.parametrize(
    ("parameters", "hold"),
    [
        ({}, None),
        ({"stream_interval_ms": "20"}, 0.02),
        ({"stream_interval_ms": 0}, 0.0),
        ({"stream_interval": 4}, 0.0),
        ({"stream_interval": 4, "stream_interval_ms": 30}, 0.03),
    ],
)
def test_who_counts_tokens_is_not_held_back_by_the_clock_unless_asked_for(parameters, hold):
    sampling = parse(**parameters)
    assert sampling.longest_hold == hold
    assert sampling.to_vllm(stream=True, vocabulary_size=10).stream_interval == parameters.get("stream_interval")


def test_zero_temperature_is_greedy_not_the_default():
    assert parse(temperature=0).to_vllm(stream=False, vocabulary_size=10).temperature == 0.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": "hot"}, r"temperature: 'hot' is not allowed: .*number"),
        ({"temperature": True}, r"temperature: True is not allowed: must be a number"),
        ({"temperature": 2.1}, r"temperature: 2.1 is not allowed: .*less than or equal to 2"),
        ({"temperature": float("nan")}, r"temperature: nan is not allowed: .*finite"),
        ({"top_p": 0}, r"top_p: 0 is not allowed: .*greater than 0"),
        ({"top_k": 1.5}, r"top_k: 1.5 is not allowed: .*integer"),
        ({"max_tokens": 0}, r"max_tokens: 0 is not allowed: .*greater than or equal to 1"),
        ({"min_tokens": 5, "max_tokens": 4}, r"min_tokens: 5 is not allowed: must be at most max_tokens, 4"),
        ({"n": 2, "temperature": 0}, r"n: 2 is not allowed: must be 1 when temperature is 0"),
        ({"stop": ["a", ""]}, r"stop.1: '' is not allowed"),
        ({"seed": 2**63}, r"seed: 9223372036854775808 is not allowed"),
        ({"stream_interval_ms": 1001}, r"stream_interval_ms: 1001 is not allowed: .*less than or equal to 1000"),
        ({"stream_interval_ms": -1}, r"stream_interval_ms: -1 is not allowed: .*greater than or equal to 0"),
        ({"lora_name": "x"}, r"lora_name: 'x' is not allowed: one of \['bold'\]"),
        ({"bogus": 1}, r"bogus: 1 is not allowed: there is no such sampling parameter; there are: n, temperature"),
        ({"structured_outputs": "{}"}, r"structured_outputs: {} is not allowed: exactly one of json, regex"),
        ({"structured_outputs": {"regexp": "a"}}, r"structured_outputs.regexp: 'a' is not allowed"),
    ],
)
def test_a_refusal_names_the_parameter_the_value_and_what_is_allowed(parameters, message):
    with pytest.raises(InvalidArgument, match=message):
        parse(**parameters)


def test_token_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(InvalidArgument, match=r"stop_token_ids: 10 is not allowed: token ids of this model are 0 to 9"):
        parse(stop_token_ids=[10]).to_vllm(stream=False, vocabulary_size=10)


def test_long_values_are_shortened_in_messages():
    with pytest.raises(InvalidArgument) as refusal:
        parse(temperature="x" * 10_000)
    assert len(str(refusal.value)) < 300


def test_the_documentation_lists_every_parameter():
    page = (ROOT / "docs/text-model.md").read_text()
    table = page.split("## Sampling parameters")[1].split("## Errors")[0]
    documented = {name for row in re.findall(r"^\| (`[^|]+) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert documented == set(SamplingRequest.model_fields)
