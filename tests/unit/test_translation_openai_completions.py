"""OpenAI's completions: prompts to tensors, and answers that OpenAI's own types read strictly."""

import json
import reprlib
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types import Completion
from pydantic import ValidationError
from translated import (
    ONE,
    UNLIKELY,
    completion,
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

from fictures.translation.openai_requests import CompletionRequest

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


# Answers to completions


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
