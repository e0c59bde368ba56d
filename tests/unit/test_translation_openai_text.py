"""The text parameters that OpenAI's completions and chats have in common, translated to tensors."""

import json
import math
import reprlib
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from translated import (
    BASES,
    NUMBERS_ARE_NOT,
    TEXTS,
    TO_THE_END,
    asked,
    call,
    chat,
    completion,
    inputs,
    parse,
    refused,
    sampling,
)

from fictures import InvalidRequest
from fictures.tensors import inputs_of
from fictures.translation.calls import TextCall
from fictures.translation.openai_requests import ChatRequest, CompletionRequest

# Requests for text


def test_a_chat_goes_as_messages_beside_an_empty_prompt_and_to_the_contexts_end() -> None:
    model, sent = asked(chat())
    assert model == "gemma"
    assert json.loads(sent.pop("messages")) == [{"role": "user", "content": "Hi"}]
    assert json.loads(sent.pop("sampling_parameters")) == {"n": 1, "max_tokens": TO_THE_END}
    assert sent == {
        "text_input": "",
        "stream": False,
        "exclude_input_in_output": True,
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def test_a_completion_goes_as_its_prompt_and_leaves_everything_else_to_the_model() -> None:
    model, sent = asked(completion())
    assert (model, sent["text_input"]) == ("gemma", "Once")
    assert "messages" not in sent
    assert json.loads(sent["sampling_parameters"]) == {"n": 1}


@pytest.mark.parametrize("stream", [False, True])
@TEXTS
def test_a_request_carries_the_callers_id_and_whether_it_streams(model: type[BaseModel], stream: bool) -> None:
    request = call(model).to_triton(stream=stream, request_id="abc")
    assert (request.id, inputs_of(request)["stream"]) == ("abc", [stream])
    assert request.parameters["omit_unchanged_outputs"].bool_param == stream


SAMPLING: dict[str, Any] = {
    "n": 3,
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.25,
    "stop": ["END", "."],
    "seed": -(2**63),
    "presence_penalty": -2,
    "frequency_penalty": 1.5,
    "logit_bias": {"17": -100, "3": 0.5},
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "min_tokens": 2,
    "stop_token_ids": [1, 2],
    "bad_words": ["no"],
    "ignore_eos": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "lora_name": "poet",
    "stream_interval_ms": 20,
}


@TEXTS
def test_sampling_parameters_arrive_by_vllms_names(model: type[BaseModel]) -> None:
    made = call(model, **SAMPLING)
    assert isinstance(made, TextCall)
    assert sampling(made) == SAMPLING
    assert made.choices == 3


ZEROS = {
    "temperature": 0,
    "seed": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_k": 0,
    "min_p": 0,
    "min_tokens": 0,
    "ignore_eos": False,
    "stop_token_ids": [],
}


@TEXTS
def test_zero_is_a_value(model: type[BaseModel]) -> None:
    made = call(model, **ZEROS)
    assert isinstance(made, TextCall)
    assert {name: value for name, value in sampling(made).items() if name in ZEROS} == ZEROS


@TEXTS
def test_top_p_0_means_greedy_whatever_the_temperature_is(model: type[BaseModel]) -> None:
    made = call(model, top_p=0, temperature=1.5)
    assert isinstance(made, TextCall)
    assert sampling(made)["temperature"] == 0
    assert "top_p" not in sampling(made)


def test_one_stop_text_is_a_list_of_one() -> None:
    assert sampling(chat(stop="END"))["stop"] == ["END"]


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, TO_THE_END),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 6, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_max_completion_tokens_wins_over_max_tokens(fields: dict[str, Any], most: int) -> None:
    assert sampling(chat(**fields))["max_tokens"] == most


TEXT_LIMITS: list[tuple[str, list[Any], list[Any]]] = [
    ("n", [1, 64], [0, -1, 65]),
    ("max_tokens", [1, 2**20], [0, -1]),
    ("temperature", [0, 2], [-0.01, 2.01, math.nan, math.inf, 10**400]),
    ("top_p", [0, 1], [-0.01, 1.01, math.nan]),
    ("seed", [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
    ("presence_penalty", [-2, 2], [-2.01, 2.01]),
    ("frequency_penalty", [-2, 2], [-2.01, 2.01, math.nan]),
    ("top_k", [-1, 0, 1], [-2]),
    ("min_p", [0, 1], [-0.01, 1.01]),
    ("repetition_penalty", [0.01, 100], [0, -1, 100.01]),
    ("min_tokens", [0], [-1]),
    ("model", ["g"], [""]),
    ("lora_name", ["p"], [""]),
    ("stream_interval_ms", [0, 1000], [-1, 1001]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, within, _ in TEXT_LIMITS for value in within], ids=reprlib.repr
)
@TEXTS
def test_a_text_request_within_the_limits_is_taken(model: type[BaseModel], field: str, value: Any) -> None:
    call(model, **{field: value}).to_triton(stream=False)


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, _, beyond in TEXT_LIMITS for value in beyond], ids=reprlib.repr
)
@TEXTS
def test_a_text_request_beyond_them_is_refused_by_the_name_of_the_field(
    model: type[BaseModel], field: str, value: Any
) -> None:
    assert refused(model, BASES[model] | {field: value}) == {field}


NUMBERS = ("n", "max_tokens", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "top_k", "min_p")


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name in NUMBERS for value in NUMBERS_ARE_NOT if value is not None]
    + [("n", 1.0), ("max_tokens", 1.5), ("seed", 2.0), ("stream", "true"), ("stream", 1), ("ignore_eos", 0)]
    + [("model", 5), ("model", ["gemma"]), ("user", 5), ("stop_token_ids", 5), ("bad_words", "no")]
    + [("structured_outputs", []), ("structured_outputs", "{}"), ("lora_name", 1), ("model", "half \ud800")]
    + [("logit_bias", value) for value in ([1], "17", 5)],
    ids=reprlib.repr,
)
@TEXTS
def test_a_value_of_another_type_is_refused_and_never_converted(model: type[BaseModel], field: str, value: Any) -> None:
    assert refused(model, BASES[model] | {field: value}) == {field}


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("logit_bias", {"17": "much"}, "logit_bias.17"),
        ("logit_bias", {"17": None}, "logit_bias.17"),
        ("logit_bias", {"17": [1]}, "logit_bias.17"),
        ("stop_token_ids", ["1"], "stop_token_ids.0"),
        ("bad_words", ["no", ""], "bad_words.1"),
    ],
)
@TEXTS
def test_an_element_of_another_type_is_refused_by_its_place(
    model: type[BaseModel], field: str, value: Any, place: str
) -> None:
    assert refused(model, BASES[model] | {field: value}) == {place}


@pytest.mark.parametrize("stop", ["", 5, [""], ["a", 5], ["a"] * 65, {}, True], ids=reprlib.repr)
@TEXTS
def test_stop_is_a_text_or_some_texts_of_one_character_or_more(model: type[BaseModel], stop: Any) -> None:
    assert {place.split(".")[0] for place in refused(model, BASES[model] | {"stop": stop})} == {"stop"}


@TEXTS
def test_structured_outputs_go_as_they_are(model: type[BaseModel]) -> None:
    made = call(model, structured_outputs={"regex": "a+", "whitespace_pattern": " "})
    assert isinstance(made, TextCall)
    assert json.loads(sampling(made)["structured_outputs"]) == {"regex": "a+", "whitespace_pattern": " "}


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("structured_outputs", {"json": {"maximum": math.nan}}, "structured_outputs"),
        ("logit_bias", {"17": math.nan}, "sampling parameters"),
    ],
)
@TEXTS
def test_what_has_no_json_form_is_refused_when_it_is_written(
    model: type[BaseModel], field: str, value: Any, name: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: "):
        call(model, **{field: value}).to_triton(stream=False)


# Streams and logprobs, as they are asked for


@pytest.mark.parametrize("usage", [True, False])
@TEXTS
def test_stream_options_belong_to_a_stream(model: type[BaseModel], usage: bool) -> None:
    options = {"include_usage": usage, "include_obfuscation": False}
    call(model, stream=True, stream_options=options)
    for fields in ({}, {"stream": False}, {"stream": None}):
        with pytest.raises(ValidationError, match="stream_options: only together with stream"):
            parse(model, stream_options=options, **fields)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"include_obfuscation": True}, "stream_options.include_obfuscation"),
        ({"include_usage": "yes"}, "stream_options.include_usage"),
        ({"continuous_usage_stats": True}, "stream_options.continuous_usage_stats"),
        (True, "stream_options"),
    ],
)
@TEXTS
def test_a_wrong_stream_option_is_refused(model: type[BaseModel], options: Any, place: str) -> None:
    assert refused(model, BASES[model] | {"stream": True, "stream_options": options}) == {place}


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": True, "top_logprobs": None}, 0),
    ],
)
def test_a_chat_asks_for_logprobs_only_if_it_wants_them(fields: dict[str, Any], most: int | None) -> None:
    made = chat(**fields)
    assert sampling(made).get("logprobs") == most
    assert inputs(made).get("return_logprobs") == (None if most is None else True)


@pytest.mark.parametrize("most", [None, 0, 1, 20])
def test_a_completion_asks_for_logprobs_by_their_number(most: int | None) -> None:
    made = completion(logprobs=most)
    assert sampling(made).get("logprobs") == most
    assert inputs(made).get("return_logprobs") == (None if most is None else True)


@pytest.mark.parametrize(
    ("model", "fields", "place"),
    [
        (ChatRequest, {"logprobs": 3}, "logprobs"),
        (ChatRequest, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (ChatRequest, {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        (ChatRequest, {"logprobs": True, "top_logprobs": True}, "top_logprobs"),
        (CompletionRequest, {"logprobs": True}, "logprobs"),
        (CompletionRequest, {"logprobs": 21}, "logprobs"),
        (CompletionRequest, {"logprobs": -1}, "logprobs"),
    ],
)
def test_a_wrong_number_of_logprobs_is_refused(model: type[BaseModel], fields: dict[str, Any], place: str) -> None:
    assert refused(model, BASES[model] | fields) == {place}


@pytest.mark.parametrize("fields", [{}, {"logprobs": False}, {"logprobs": None}])
def test_top_logprobs_belong_to_logprobs(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="top_logprobs: only together with logprobs"):
        parse(ChatRequest, top_logprobs=3, **fields)
