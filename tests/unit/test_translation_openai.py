"""The OpenAI API, translated: bodies to the tensors that Triton gets, and Triton's responses to bodies and events.

What comes out is read again, strictly, by the types of OpenAI's own package.
"""

import base64
import json
import math
import reprlib
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from openai.types import Completion, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, ValidationError
from test_translation_fictures import NUMBERS_ARE_NOT, inputs, read, refused, sampling, text

from fictures import InvalidRequest, ServerError
from fictures.tensors import inputs_of
from fictures.translation.answers import ImageFile, ImageStep, TextAnswer, joined
from fictures.translation.calls import ImageCall, TextCall
from fictures.translation.openai_images import ImageEvents, images_response
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest
from fictures.translation.openai_text import ChatCompletions, Completions

M = TypeVar("M", bound=BaseModel)
BASES: dict[type[BaseModel], dict[str, Any]] = {
    ChatRequest: {"model": "gemma", "messages": [{"role": "user", "content": "Hi"}]},
    CompletionRequest: {"model": "gemma", "prompt": "Once"},
    ImagesRequest: {"model": "sdxl", "prompt": "harbour"},
}
"""The smallest bodies."""
ALL = pytest.mark.parametrize("model", list(BASES))
TEXTS = pytest.mark.parametrize("model", [ChatRequest, CompletionRequest])
TO_THE_END = 2**20


def parse(model: type[M], /, **fields: Any) -> M:
    return model.model_validate(BASES[model] | fields)


def call(model: type[BaseModel], /, **fields: Any) -> TextCall | ImageCall:
    """The only call that a request makes."""
    request: Any = parse(model, **fields)
    if isinstance(request, CompletionRequest):
        (only,) = request.to_calls()
        return only
    made: TextCall | ImageCall = request.to_call()
    return made


def chat(**fields: Any) -> TextCall:
    made = call(ChatRequest, **fields)
    assert isinstance(made, TextCall)
    return made


def completion(**fields: Any) -> TextCall:
    made = call(CompletionRequest, **fields)
    assert isinstance(made, TextCall)
    return made


def images(**fields: Any) -> ImageCall:
    made = call(ImagesRequest, **fields)
    assert isinstance(made, ImageCall)
    return made


def asked(made: TextCall | ImageCall) -> tuple[str, dict[str, Any]]:
    """The model and the tensors of a call."""
    return made.to_triton(stream=False).model_name, inputs(made)


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


# What is not supported, and what makes no difference


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
UNSUPPORTED: list[tuple[type[BaseModel], str, Any]] = [
    (ChatRequest, "tools", [FUNCTION]),
    (ChatRequest, "functions", [{"name": "f"}]),
    (ChatRequest, "function_call", {"name": "f"}),
    (ChatRequest, "tool_choice", "required"),
    (ChatRequest, "tool_choice", FUNCTION),
    (ChatRequest, "audio", {"voice": "alloy", "format": "wav"}),
    (ChatRequest, "modalities", ["text", "audio"]),
    (ChatRequest, "prediction", {"type": "content", "content": "x"}),
    (ChatRequest, "web_search_options", {}),
    (ChatRequest, "reasoning_effort", "high"),
    (ChatRequest, "store", True),
    (ChatRequest, "metadata", {"a": "b"}),
    (ChatRequest, "service_tier", "flex"),
    (ChatRequest, "prompt", "Once"),
    (ChatRequest, "echo", True),
    (ChatRequest, "best_of", 3),
    (CompletionRequest, "best_of", 3),
    (CompletionRequest, "suffix", "the end"),
    (CompletionRequest, "tools", [FUNCTION]),
    (CompletionRequest, "messages", [{"role": "user", "content": "Hi"}]),
    (CompletionRequest, "top_logprobs", 3),
    (CompletionRequest, "response_format", {"type": "json_object"}),
    (CompletionRequest, "max_completion_tokens", 5),
    (CompletionRequest, "chat_template_kwargs", {}),
    (ImagesRequest, "background", "transparent"),
    (ImagesRequest, "quality", "hd"),
    (ImagesRequest, "style", "vivid"),
    (ImagesRequest, "output_compression", 50),
    (ImagesRequest, "image", "data:,"),
    (ImagesRequest, "width", 512),
    (ImagesRequest, "num_images", 2),
    (ImagesRequest, "temperature", 1),
    (ChatRequest, "Temperature", 1),
    (CompletionRequest, "", 1),
]


@pytest.mark.parametrize(("model", "field", "value"), UNSUPPORTED, ids=reprlib.repr)
def test_what_is_not_supported_is_refused_by_its_name(model: type[BaseModel], field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(model, **{field: value})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [((field,), "extra_forbidden")]


NEUTRAL: list[tuple[type[BaseModel], str, Any]] = [
    (ChatRequest, "tools", []),
    (ChatRequest, "functions", []),
    (ChatRequest, "function_call", "none"),
    (ChatRequest, "function_call", "auto"),
    (ChatRequest, "tool_choice", "none"),
    (ChatRequest, "tool_choice", "auto"),
    (ChatRequest, "parallel_tool_calls", True),
    (ChatRequest, "parallel_tool_calls", False),
    (ChatRequest, "modalities", ["text"]),
    (ChatRequest, "store", False),
    (ChatRequest, "metadata", {}),
    (ChatRequest, "service_tier", "auto"),
    (ChatRequest, "service_tier", "default"),
    (ChatRequest, "user", "ann"),
    (ChatRequest, "response_format", {"type": "text"}),
    (ChatRequest, "logprobs", False),
    (ChatRequest, "n", 1),
    (ChatRequest, "stream", False),
    (CompletionRequest, "best_of", 1),
    (CompletionRequest, "suffix", ""),
    (CompletionRequest, "echo", False),
    (CompletionRequest, "user", "ann"),
    (ImagesRequest, "background", "auto"),
    (ImagesRequest, "background", "opaque"),
    (ImagesRequest, "moderation", "low"),
    (ImagesRequest, "moderation", "auto"),
    (ImagesRequest, "quality", "auto"),
    (ImagesRequest, "quality", "standard"),
    (ImagesRequest, "response_format", "b64_json"),
    (ImagesRequest, "partial_images", 0),
    (ImagesRequest, "user", "ann"),
    (ImagesRequest, "size", "auto"),
]


@pytest.mark.parametrize(("model", "field", "value"), NEUTRAL, ids=reprlib.repr)
def test_a_value_that_asks_for_what_is_done_anyway_makes_no_difference(
    model: type[BaseModel], field: str, value: Any
) -> None:
    assert asked(call(model, **{field: value})) == asked(call(model))


@ALL
def test_null_is_the_same_as_not_given(model: type[BaseModel]) -> None:
    known = {field.alias or name for name, field in model.model_fields.items()}
    unsupported = {name for kind, name, _ in UNSUPPORTED if kind is model}
    nulls = dict.fromkeys((known | unsupported) - set(BASES[model]))
    assert len(nulls) > 10
    assert asked(call(model, **nulls)) == asked(call(model))


@pytest.mark.parametrize(("model", "field"), [(model, field) for model in BASES for field in BASES[model]])
def test_null_is_no_value_for_what_is_required(model: type[BaseModel], field: str) -> None:
    if (model, field) == (ImagesRequest, "model"):
        assert call(model, model=None).model == "sdxl"
    else:
        assert refused(model, BASES[model] | {field: None}) == {field}


@pytest.mark.parametrize("body", [[], "Hi", 5, None, [{}]])
@ALL
def test_a_body_is_an_object(model: type[BaseModel], body: Any) -> None:
    assert refused(model, body) == {""}


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


# Chats


def messages(*given: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that arrive of those that are given."""
    arrived: list[dict[str, Any]] = json.loads(inputs(chat(messages=list(given)))["messages"])
    return arrived


def test_messages_arrive_as_they_are() -> None:
    given = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "naïve \x00 𝄞", "name": "ann"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]},
    ]
    assert messages(*given) == given


def test_a_developer_is_the_system_to_chat_templates() -> None:
    assert messages({"role": "developer", "content": "Be brief."}) == [{"role": "system", "content": "Be brief."}]


def test_a_picture_goes_with_its_message() -> None:
    url = "data:image/png;base64,AA=="
    (message,) = messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert message["content"][0]["type"] == "image_url"
    assert message["content"][0]["image_url"]["url"] == url


def test_a_null_name_is_no_name() -> None:
    assert messages({"role": "user", "content": "Hi", "name": None}) == [{"role": "user", "content": "Hi"}]


def test_an_answer_may_be_sent_back_as_openais_sdk_sends_it() -> None:
    answer = ChatCompletions(parse(ChatRequest), "chatcmpl-1", 0).whole(whole_text("Hello", reasons=["stop"]))
    back = answer.choices[0].message.model_dump(exclude_unset=True)
    assert back == {"role": "assistant", "content": "Hello", "refusal": None}
    assert messages({"role": "user", "content": "Hi"}, back)[1] == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "tool", "content": "4", "tool_call_id": "1"}, "role"),
        ({"role": "function", "content": "4", "name": "f"}, "role"),
        ({"role": "User", "content": "Hi"}, "role"),
        ({"role": "assistant", "content": "", "tool_calls": [FUNCTION]}, "tool_calls"),
        ({"role": "assistant", "content": None}, "content"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": ["Hi"]}, "content"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "content"),
        ({"role": "user", "content": [{"type": "text"}]}, "content"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:,"}]}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": " data:,"}}]}, "content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,", "detail": "x"}}]},
            "content",
        ),
        ({"role": "user", "content": "Hi", "name": 5}, "name"),
        ({"role": "user", "content": "Hi", "weight": 1}, "weight"),
        ("Hi", ""),
    ],
    ids=reprlib.repr,
)
def test_a_wrong_message_is_refused_by_its_place(message: Any, place: str) -> None:
    good = {"role": "user", "content": "Hi"}
    places = refused(ChatRequest, {"model": "gemma", "messages": [good, message]})
    assert any(found.startswith(f"messages.1.{place}".rstrip(".")) for found in places)


@pytest.mark.parametrize("given", [[], {}, "Hi", {"role": "user", "content": "Hi"}])
def test_a_chat_has_a_list_of_one_message_or_more(given: Any) -> None:
    assert refused(ChatRequest, {"model": "gemma", "messages": given}) == {"messages"}


def test_variables_of_the_chat_template_go_beside_the_messages() -> None:
    sent = inputs(chat(chat_template_kwargs={"enable_thinking": False}))
    assert json.loads(sent["chat_template_kwargs"]) == {"enable_thinking": False}
    assert "chat_template_kwargs" not in inputs(chat(chat_template_kwargs={}))


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("response_format", "form"),
    [
        ({"type": "text"}, None),
        ({"type": "text", "json_schema": None}, None),
        ({"type": "json_object"}, {"json_object": True}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}, {"json": SCHEMA}),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {}, "strict": True, "description": "An a."},
            },
            {"json": {}},
        ),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": None}}, {"json": SCHEMA}),
    ],
)
def test_a_response_format_becomes_vllms_structured_outputs(response_format: Any, form: Any) -> None:
    sent = sampling(chat(response_format=response_format)).get("structured_outputs")
    assert (sent and json.loads(sent)) == form


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": None},
        {"type": "json_object", "json_schema": {"name": "a", "schema": {}}},
        {"type": "text", "json_schema": {"name": "a", "schema": {}}},
        {"type": "json_schema", "json_schema": {"schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "a"}},
        {"type": "json_schema", "json_schema": {"name": "", "schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": "{}"}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "extra": 1}},
        {"type": "grammar", "grammar": "root"},
        {"type": "url"},
        {},
        "json_object",
    ],
    ids=reprlib.repr,
)
def test_a_wrong_response_format_is_refused_by_its_name(response_format: Any) -> None:
    places = refused(ChatRequest, BASES[ChatRequest] | {"response_format": response_format})
    assert {place.split(".")[0] for place in places} == {"response_format"}


def test_a_form_is_asked_for_once() -> None:
    form = {"structured_outputs": {"regex": "a"}}
    with pytest.raises(ValidationError, match="response_format: not together with structured_outputs"):
        parse(ChatRequest, response_format={"type": "json_object"}, **form)
    assert json.loads(sampling(chat(response_format={"type": "text"}, **form))["structured_outputs"]) == {"regex": "a"}


# Prompts


def test_each_of_several_prompts_is_a_call_of_its_own() -> None:
    calls = parse(CompletionRequest, prompt=["a", "b", "a"], n=2, logprobs=1).to_calls()
    assert [inputs(made)["text_input"] for made in calls] == ["a", "b", "a"]
    assert all(sampling(made) == {"n": 2, "logprobs": 1} for made in calls)


@pytest.mark.parametrize("prompt", ["a", ["a"], ["a"] * 64, "\x00", " "], ids=reprlib.repr)
def test_a_prompt_is_a_text_or_up_to_64(prompt: Any) -> None:
    parse(CompletionRequest, prompt=prompt)


@pytest.mark.parametrize(
    "prompt", ["", [], [""], ["a", ""], ["a"] * 65, 5, {}, ["a", None], ["\ud800"], True], ids=reprlib.repr
)
def test_a_prompt_of_another_kind_is_refused(prompt: Any) -> None:
    assert all(
        place.split(".")[0] == "prompt" for place in refused(CompletionRequest, {"model": "gemma", "prompt": prompt})
    )


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_token_ids_are_refused_in_so_many_words(prompt: Any) -> None:
    with pytest.raises(ValidationError, match="token ids are not supported"):
        parse(CompletionRequest, prompt=prompt)


@pytest.mark.parametrize("logprobs", [0, 3])
def test_echo_and_logprobs_do_not_go_together(logprobs: int) -> None:
    with pytest.raises(ValidationError, match="echo: not supported together with logprobs"):
        parse(CompletionRequest, echo=True, logprobs=logprobs)
    assert sampling(completion(echo=True)) == {"n": 1}


# Requests for images


def test_a_prompt_is_all_that_an_image_needs() -> None:
    request = ImagesRequest.model_validate({"prompt": "harbour"})
    model, sent = asked(request.to_call())
    assert model == "sdxl"
    assert sent == {"prompt": "harbour", "width": 1024, "height": 1024, "output_format": "png"}


def test_everything_that_is_given_of_an_image_is_sent() -> None:
    given = {
        "negative_prompt": "fog",
        "num_inference_steps": 8,
        "guidance_scale": 0,
        "seed": 0,
        "scheduler": "euler",
        "output_format": "webp",
    }
    _, sent = asked(images(**given, n=4, size="512x256"))
    assert sent == given | {"prompt": "harbour", "width": 512, "height": 256, "num_images": 4}


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ("256x256", (256, 256)),
        ("2048x264", (2048, 264)),
        ("1024x1536", (1024, 1536)),
        ("auto", (1024, 1024)),
        (None, (1024, 1024)),
    ],
)
def test_a_size_is_width_by_height(size: str | None, sides: tuple[int, int]) -> None:
    _, sent = asked(images(size=size))
    assert (sent["width"], sent["height"]) == sides


@pytest.mark.parametrize(
    "size",
    [
        *("", "1024", "1024x", "x1024", "1024X1024", "1024 x 1024", "1024x1024x3", "-512x512", "512x512\n"),
        *("248x256", "256x2056", "260x256", "0x0", "999999999x256", "1e3x256", "Auto", "wide", 1024, [512, 512]),
    ],
)
def test_a_size_that_no_image_can_have_is_refused(size: Any) -> None:
    assert refused(ImagesRequest, BASES[ImagesRequest] | {"size": size}) == {"size"}


IMAGE_LIMITS: list[tuple[str, list[Any], list[Any]]] = [
    ("n", [1, 4], [0, 5, -1]),
    ("num_inference_steps", [1, 100], [0, 101]),
    ("guidance_scale", [0, 30], [-0.01, 30.01, math.nan, math.inf, 10**400]),
    ("seed", [0, 2**63 - 1], [-1, 2**63]),
    ("prompt", ["a", "𝄞" * 10_000], ["", " \n", "a" * 10_001]),
    ("negative_prompt", ["", "a" * 10_000], ["a" * 10_001]),
    ("output_format", ["png", "jpeg", "webp"], ["PNG", "jpg", "gif", ""]),
    ("response_format", ["b64_json"], ["url", "png", ""]),
    ("scheduler", ["euler"], [""]),
    ("model", ["other"], [""]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, within, _ in IMAGE_LIMITS for value in within], ids=reprlib.repr
)
def test_an_image_request_within_the_limits_is_taken(field: str, value: Any) -> None:
    images(**{field: value}).to_triton(stream=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name, _, beyond in IMAGE_LIMITS for value in beyond]
    + [(name, value) for name in ("n", "num_inference_steps", "guidance_scale") for value in NUMBERS_ARE_NOT if value]
    + [
        ("n", 1.0),
        ("seed", "1"),
        ("partial_images", 4),
        ("partial_images", -1),
        ("prompt", ["a"]),
        ("prompt", "\ud800"),
    ]
    + [("negative_prompt", 5), ("stream", "true"), ("user", 5)],
    ids=reprlib.repr,
)
def test_an_image_request_beyond_them_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    assert refused(ImagesRequest, BASES[ImagesRequest] | {field: value}) == {field}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stream": True, "n": 2}, "n: must be 1 when streaming"),
        ({"partial_images": 1}, "partial_images: only together with stream"),
        ({"partial_images": 1, "stream": False}, "partial_images: only together with stream"),
    ],
)
def test_a_stream_of_images_has_rules_of_its_own(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse(ImagesRequest, **fields)


# Nothing that can be sent does harm


NASTY: list[Any] = [
    *(math.nan, math.inf, -math.inf, 1e308, -0.0, 10**4000, -(10**400), 2**63, -1, 0, 1, True, False),
    *("", "\ud800", "\udfff\ud800", "\x00\x1b\x7f", "\u202e", "x" * 20_000, "None", "__class__", "{}", "data:"),
    *([], {}, [[]], [{}], [None], {"": None}, {"\ud800": "\ud800"}, {"json": math.nan}, {"type": []}, {"regex": "("}),
]


@ALL
def test_no_value_is_more_than_refused(model: type[BaseModel]) -> None:
    nest: Any = []
    for _ in range(500):
        nest = [nest]
    for field in (*model.model_fields, "tools", "metadata", "unknown"):
        for value in (*NASTY, nest):
            try:
                request: Any = parse(model, **{field: value})
            except ValidationError as error:
                assert error.error_count() > 0  # noqa: PT017
                continue
            for made in request.to_calls() if isinstance(request, CompletionRequest) else [request.to_call()]:
                try:
                    made.to_triton(stream=request.stream)
                except InvalidRequest as error:
                    assert ": " in str(error)  # noqa: PT017


# Answers to chats


def reparse(kind: type[M], told: BaseModel | dict[str, Any]) -> M:
    """What is sent, read by OpenAI's type, which has to know all of it."""
    text = json.dumps(told) if isinstance(told, dict) else told.model_dump_json(exclude_unset=True)
    found = kind.model_validate_json(text, strict=True)
    assert not found.model_extra
    return found


def whole_text(*texts: str, **outputs: Any) -> TextAnswer:
    return joined(read(text(*texts, **outputs)))


def logprob(*candidates: tuple[str | None, float, int]) -> dict[str, Any]:
    """A token as the server tells of it; the chosen one is the first."""
    return {
        str(number): {"logprob": value, "rank": rank, "decoded_token": token}
        for number, (token, value, rank) in enumerate(candidates)
    }


def logprobs(*texts: list[dict[str, Any]]) -> dict[str, Any]:
    """The output `logprobs` of a response."""
    return {"logprobs": ("BYTES", [json.dumps(tokens).encode() for tokens in texts])}


ONE = logprob(("one", -0.5, 1), ("eins", -1.5, 2), ("un", -2.5, 3))
UNLIKELY = logprob((" é", -9.0, 40), (" two", -0.1, 1))


def chats(**fields: Any) -> ChatCompletions:
    return ChatCompletions(parse(ChatRequest, **fields), "chatcmpl-1", 1234)


def test_a_chats_answer_is_openais() -> None:
    told = reparse(ChatCompletion, chats().whole(whole_text("Hello", reasons=["stop"], tokens=[4])))
    assert told.model_dump(exclude_unset=True) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1234,
        "model": "gemma",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11},
    }


@pytest.mark.parametrize(
    ("reason", "told"), [("stop", "stop"), ("length", "length"), ("None", "stop"), ("abort", "stop"), ("", "stop")]
)
def test_a_whole_text_has_ended_with_stop_or_length(reason: str, told: str) -> None:
    answer = whole_text("Hello", reasons=[reason])
    assert reparse(ChatCompletion, chats().whole(answer)).choices[0].finish_reason == told
    assert reparse(Completion, completions().whole([answer])).choices[0].finish_reason == told


def test_several_choices_count_the_prompt_once() -> None:
    answer = whole_text("a", "b", "c", reasons=["stop", "length", "stop"], tokens=[1, 2, 3])
    told = reparse(ChatCompletion, chats(n=3).whole(answer))
    assert [(choice.index, choice.message.content) for choice in told.choices] == [(0, "a"), (1, "b"), (2, "c")]
    assert [choice.finish_reason for choice in told.choices] == ["stop", "length", "stop"]
    assert told.usage
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (7, 6, 13)


def test_logprobs_are_those_of_the_chosen_tokens_and_of_as_many_likeliest_as_were_asked_for() -> None:
    answer = whole_text("one é", reasons=["stop"], **logprobs([ONE, UNLIKELY]))
    told = reparse(ChatCompletion, chats(logprobs=True, top_logprobs=2).whole(answer)).choices[0].logprobs
    assert told
    assert told.content
    assert [(token.token, token.logprob, token.bytes) for token in told.content] == [
        ("one", -0.5, [111, 110, 101]),
        (" é", -9.0, [32, 195, 169]),
    ]
    assert [[(top.token, top.logprob) for top in token.top_logprobs] for token in told.content] == [
        [("one", -0.5), ("eins", -1.5)],
        [(" two", -0.1), (" é", -9.0)],
    ]


@pytest.mark.parametrize(("most", "found"), [(None, 0), (0, 0), (1, 1), (3, 3), (20, 3)])
def test_no_more_likeliest_tokens_are_told_of_than_were_asked_for(most: int | None, found: int) -> None:
    answer = whole_text("one", reasons=["stop"], **logprobs([ONE]))
    told = reparse(ChatCompletion, chats(logprobs=True, top_logprobs=most).whole(answer)).choices[0].logprobs
    assert told
    assert told.content
    assert len(told.content[0].top_logprobs) == found


def test_a_token_that_could_not_be_is_as_unlikely_as_json_can_say() -> None:
    answer = whole_text("x", reasons=["stop"], **logprobs([logprob((None, -math.inf, 1))]))
    told = reparse(ChatCompletion, chats(logprobs=True).whole(answer)).choices[0].logprobs
    assert told
    assert told.content
    assert (told.content[0].token, told.content[0].logprob, told.content[0].bytes) == ("", -9999.0, [])


@pytest.mark.parametrize("data", [b"", b"{", b"5", b"[5]", b"[{}]", b'[{"1": {}}]', b'[{"1": 5}]', b"\xff", b'"x"'])
def test_logprobs_that_cannot_be_read_are_the_servers_fault(data: bytes) -> None:
    with pytest.raises(ServerError, match=r"^logprobs: "):
        read(text("one", logprobs=("BYTES", [data])))


@pytest.mark.parametrize("data", [b"null", b"[]"])
def test_no_logprobs_are_none(data: bytes) -> None:
    answer = joined(read(text("one", reasons=["stop"], logprobs=("BYTES", [data]))))
    told = reparse(ChatCompletion, chats(logprobs=True).whole(answer)).choices[0].logprobs
    assert told
    assert told.content == []


# Streams of chats


def chat_events(*responses: Any, **fields: Any) -> list[dict[str, Any]]:
    """All events of a stream, as JSON."""
    told = chats(stream=True, **fields)
    events = [told.event(answer) for answer in read(*responses)]
    last = told.last_event()
    return [
        reparse(ChatCompletionChunk, event).model_dump(mode="json", exclude_unset=True)
        for event in (*events, *([last] if last else []))
    ]


def test_a_chats_events_are_openais() -> None:
    first, second = chat_events(text("Hel"), text("lo", reasons=["length"]))
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1234, "model": "gemma"}
    delta = {"role": "assistant", "content": "Hel"}
    assert first == head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}]}
    delta = {"content": "lo"}
    assert second == head | {"choices": [{"index": 0, "delta": delta, "finish_reason": "length", "logprobs": None}]}


def test_only_the_first_delta_of_each_choice_has_a_role() -> None:
    events = chat_events(
        text("a", "", tokens=[1, 0]),
        text("b", "c"),
        text("", "d", tokens=[0, 1], reasons=["stop", "None"]),
        text("", "e", tokens=[0, 1], reasons=["stop", "length"]),
        n=2,
    )
    told = [(choice["index"], choice["delta"]) for event in events for choice in event["choices"]]
    assert told == [
        (0, {"role": "assistant", "content": "a"}),
        (0, {"content": "b"}),
        (1, {"role": "assistant", "content": "c"}),
        (0, {"content": ""}),
        (1, {"content": "d"}),
        (1, {"content": "e"}),
    ]


def test_each_choice_ends_once() -> None:
    events = chat_events(
        text("a", "b", reasons=["None", "stop"]), text("c", "", reasons=["length", "stop"], tokens=[1, 0]), n=2
    )
    reasons = [(choice["index"], choice["finish_reason"]) for event in events for choice in event["choices"]]
    assert reasons == [(0, None), (1, "stop"), (0, "length")]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_usage_comes_in_an_event_of_its_own_if_it_is_asked_for(options: dict[str, Any] | None) -> None:
    responses = [text("a", "b", tokens=[1, 2]), text("c", "d", tokens=[3, 4], reasons=["stop", "stop"])]
    events = chat_events(*responses, n=2, stream_options=options)
    assert all("usage" not in event for event in events[:2])
    usage = {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17}
    assert [(event["choices"], event["usage"]) for event in events[2:]] == (
        [([], usage)] if options and options["include_usage"] else []
    )


def test_each_delta_has_the_logprobs_of_its_tokens() -> None:
    events = chat_events(
        text("one", **logprobs([ONE])), text(" é", reasons=["stop"], **logprobs([UNLIKELY])), logprobs=True
    )
    told = [event["choices"][0]["logprobs"]["content"] for event in events]
    assert [[token["token"] for token in tokens] for tokens in told] == [["one"], [" é"]]
    assert all(token["top_logprobs"] == [] for tokens in told for token in tokens)


# Answers to completions


def completions(**fields: Any) -> Completions:
    return Completions(parse(CompletionRequest, **fields), "cmpl-1", 1234)


def test_a_completions_answer_is_openais() -> None:
    told = reparse(Completion, completions().whole([whole_text(" upon", reasons=["length"], tokens=[4])]))
    assert told.model_dump(exclude_unset=True) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1234,
        "model": "gemma",
        "choices": [{"index": 0, "text": " upon", "finish_reason": "length", "logprobs": None}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11},
    }


def test_text_k_of_prompt_i_is_choice_i_times_n_plus_k_and_each_prompt_counts_once() -> None:
    answers = [
        whole_text("a", "b", reasons=["stop", "stop"], tokens=[1, 2]),
        whole_text("c", "d", reasons=["length", "stop"], tokens=[3, 4]),
    ]
    told = reparse(Completion, completions(prompt=["x", "y"], n=2).whole(answers))
    assert [(choice.index, choice.text) for choice in told.choices] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert told.usage
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (14, 10, 24)


def test_echo_puts_each_prompt_in_front_of_its_texts() -> None:
    answers = [whole_text("1", "2", reasons=["stop", "stop"]), whole_text("3", "4", reasons=["stop", "stop"])]
    told = reparse(Completion, completions(prompt=["x", "y"], n=2, echo=True).whole(answers))
    assert [choice.text for choice in told.choices] == ["x1", "x2", "y3", "y4"]


def test_a_completions_logprobs_say_where_in_the_text_each_token_is() -> None:
    answer = whole_text("one é", reasons=["stop"], **logprobs([ONE, UNLIKELY]))
    told = reparse(Completion, completions(logprobs=2).whole([answer])).choices[0].logprobs
    assert told
    assert told.model_dump() == {
        "tokens": ["one", " é"],
        "token_logprobs": [-0.5, -9.0],
        "top_logprobs": [{"one": -0.5, "eins": -1.5}, {" two": -0.1, " é": -9.0}],
        "text_offset": [0, 3],
    }


def test_zero_logprobs_are_those_of_the_chosen_tokens_alone() -> None:
    answer = whole_text("one", reasons=["stop"], **logprobs([ONE]))
    told = reparse(Completion, completions(logprobs=0).whole([answer])).choices[0].logprobs
    assert told
    assert (told.token_logprobs, told.top_logprobs) == ([-0.5], [{}])


# Streams of completions


def completion_events(*responses: tuple[int, Any], **fields: Any) -> list[dict[str, Any]]:
    """All events of a stream as JSON, out of responses that are each to the prompt of a place."""
    told = completions(stream=True, **fields)
    readers: dict[int, list[Any]] = {place: [] for place, _ in responses}
    for place, answer in responses:
        readers[place].append(answer)
    answers = {place: iter(read(*given)) for place, given in readers.items()}
    events = [told.event(place, next(answers[place])) for place, _ in responses]
    last = told.last_event()
    return [*events, *([last] if last else [])]


def ended(event: dict[str, Any]) -> Completion:
    """An event as OpenAI's type, which knows no choice that goes on, although OpenAI's streams say null of it."""
    choices = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in event["choices"]]
    found = Completion.model_validate_json(json.dumps({**event, "choices": choices}), strict=True)
    assert not found.model_extra
    return found


def pieces(events: Sequence[dict[str, Any]]) -> list[tuple[int, str, str | None]]:
    return [
        (choice["index"], choice["text"], choice["finish_reason"]) for event in events for choice in event["choices"]
    ]


def test_a_completions_events_are_openais_and_end_each_choice_once() -> None:
    events = completion_events((0, text(" upon")), (0, text(" a", reasons=["length"])))
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1234, "model": "gemma"}
    assert [{name: event[name] for name in head} for event in map(dict, events)] == [head, head]
    assert [ended(event).choices[0].text for event in events] == [" upon", " a"]
    assert pieces(events) == [(0, " upon", None), (0, " a", "length")]


def test_pieces_of_several_prompts_come_in_any_order_each_to_its_choice() -> None:
    events = completion_events(
        (1, text("c", "d")),
        (0, text("a", "b", reasons=["stop", "None"])),
        (1, text("e", "f", reasons=["stop", "stop"])),
        (0, text("", "g", reasons=["stop", "length"], tokens=[0, 1])),
        prompt=["x", "y"],
        n=2,
    )
    assert pieces(events) == [
        *[(2, "c", None), (3, "d", None), (0, "a", "stop"), (1, "b", None)],
        *[(2, "e", "stop"), (3, "f", "stop"), (1, "g", "length")],
    ]


def test_a_stream_echoes_each_prompt_once_for_each_choice() -> None:
    events = completion_events(
        (0, text("1", "", tokens=[1, 0])),
        (1, text("3", "4")),
        (0, text("2", "5")),
        (1, text("6", "7")),
        prompt=["x", "y"],
        n=2,
        echo=True,
    )
    assert [text for _, text, _ in pieces(events)] == ["x1", "y3", "y4", "2", "x5", "6", "7"]


def test_a_stream_of_several_prompts_counts_each_once() -> None:
    responses = [(0, text("a")), (1, text("b")), (0, text("c", tokens=[2])), (1, text("d", tokens=[3]))]
    *events, last = completion_events(*responses, prompt=["x", "y"], stream_options={"include_usage": True})
    assert all("usage" not in event for event in events)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 14, "completion_tokens": 7, "total_tokens": 21}
    assert ended(last).usage


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_a_stream_does_not_tell_of_usage_unasked(options: dict[str, Any] | None) -> None:
    assert len(completion_events((0, text("a")), stream_options=options)) == 1


def test_offsets_go_on_from_event_to_event_in_each_choice() -> None:
    events = completion_events(
        (0, text("one", "two", **logprobs([ONE], [logprob(("two", -1.0, 1))]))),
        (0, text(" é", "", tokens=[1, 0], **logprobs([UNLIKELY], []))),
        (0, text("one", "one", **logprobs([ONE], [ONE]))),
        n=2,
        logprobs=1,
    )
    offsets = [
        (c["index"], c["logprobs"]["text_offset"]) for event in events for c in ended(event).model_dump()["choices"]
    ]
    assert offsets == [(0, [0]), (1, [0]), (0, [3]), (0, [5]), (1, [3])]


# Answers with images


def drawn(**fields: Any) -> ImagesRequest:
    return parse(ImagesRequest, **fields)


def test_images_come_in_base64_with_their_size_and_seeds() -> None:
    request = drawn(n=2, size="512x256", output_format="webp")
    told = images_response([ImageFile(b"\xff1", 5), ImageFile(b"2", 6)], request, 1234)
    found = ImagesResponse.model_validate_json(told.model_dump_json(exclude_unset=True), strict=True)
    assert (found.created, found.size, found.output_format) == (1234, "512x256", "webp")
    assert not found.model_extra
    assert found.data
    assert [base64.b64decode(image.b64_json or "") for image in found.data] == [b"\xff1", b"2"]
    assert [image.model_extra for image in found.data] == [{"seed": 5}, {"seed": 6}]


def test_the_size_that_is_told_of_is_never_auto() -> None:
    assert images_response([], drawn(size="auto"), 0).size == "1024x1024"


def stream_events(request: ImagesRequest, steps: int) -> list[Any]:
    """The events of a stream, out of an engine that keeps to what it was asked for: no preview after the last step."""
    every = inputs_of(request.to_call().to_triton(stream=True)).get("preview_every", [0])[0]
    told = ImageEvents(request, 1234)
    done = [
        ImageStep(step, steps, (f"preview {step}".encode(),) if every and step % every == 0 and step < steps else ())
        for step in range(1, steps + 1)
    ]
    return [event for event in map(told, [*done, (ImageFile(b"image", 5),)]) if event is not None]


def test_an_image_stream_is_openais() -> None:
    request = drawn(stream=True, partial_images=1, size="512x256", output_format="webp", num_inference_steps=4)
    preview, image = stream_events(request, 4)
    common = {"created_at": 1234, "size": "512x256", "quality": "auto", "background": "opaque"}
    assert reparse(ImageGenPartialImageEvent, preview).model_dump(exclude_unset=True) == common | {
        "type": "image_generation.partial_image",
        "b64_json": base64.b64encode(b"preview 2").decode(),
        "partial_image_index": 0,
        "output_format": "jpeg",
    }
    found = ImageGenCompletedEvent.model_validate_json(image.model_dump_json(exclude_unset=True), strict=True)
    assert found.model_extra == {"seed": 5}
    assert (found.type, found.output_format, found.size) == ("image_generation.completed", "webp", "512x256")
    assert base64.b64decode(found.b64_json) == b"image"
    assert found.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("steps", "partial_images"),
    [
        *[(30, 0), (30, 1), (30, 2), (30, 3), (4, 1), (4, 3), (100, 3), (2, 1)],
        (4, 2),
        (5, 3),
    ],
)
def test_as_many_previews_come_as_were_asked_for(steps: int, partial_images: int) -> None:
    request = drawn(stream=True, partial_images=partial_images, num_inference_steps=steps)
    *previews, last = stream_events(request, steps)
    assert [preview.partial_image_index for preview in previews] == list(range(partial_images))
    assert last.type == "image_generation.completed"


def test_steps_that_are_not_given_are_30() -> None:
    *previews, _ = stream_events(drawn(stream=True, partial_images=2), 30)
    assert [base64.b64decode(preview.b64_json) for preview in previews] == [b"preview 10", b"preview 20"]


def test_an_image_of_one_step_has_no_previews() -> None:
    assert len(stream_events(drawn(stream=True, partial_images=3, num_inference_steps=1), 1)) == 1


def test_previews_that_nobody_asked_for_are_no_events() -> None:
    told = ImageEvents(drawn(stream=True, partial_images=1), 1234)
    steps = [ImageStep(number, 3, (b"small",)) for number in (1, 2, 3)]
    assert [told(step) is not None for step in steps] == [True, False, False]
