"""OpenAI's chats: messages to tensors, and answers that OpenAI's own types read strictly."""

import json
import math
import reprlib
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError
from translated import (
    BASES,
    FUNCTION,
    ONE,
    UNLIKELY,
    chat,
    completions,
    inputs,
    logprob,
    logprobs,
    parse,
    read,
    refused,
    reparse,
    sampling,
    text,
    whole_text,
)

from fictures import ServerError
from fictures.translation.answers import joined
from fictures.translation.openai_requests import ChatRequest
from fictures.translation.openai_text import ChatCompletions

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


@pytest.mark.parametrize(("reason", "told"), [("stop", "stop"), ("length", "length"), ("None", "stop"), ("", "stop")])
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


@pytest.mark.parametrize("field", ["messages", "stop_token_ids", "bad_words", "stop"])
def test_a_list_of_thousands_of_errors_is_one_error(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ChatRequest.model_validate(BASES[ChatRequest] | {field: [{}] * 5000})
    assert refused.value.error_count() <= 3
