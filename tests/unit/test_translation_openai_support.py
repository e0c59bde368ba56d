"""What the OpenAI API does not support is refused by its name; what makes no difference is taken."""

import math
import reprlib
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from translated import ALL, BASES, FUNCTION, asked, call, parse, refused

from fictures import InvalidRequest
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest

# What is not supported, and what makes no difference


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
