"""The Fictures API's texts, translated: bodies to Triton's tensors, and its responses to bodies and events."""

import json
import math
import reprlib
from typing import Any

import pytest
from pydantic import BaseModel
from translated import NUMBERS_ARE_NOT, guided_call, inputs, read, refused, response, sampling, text, text_call
from tritonclient.grpc import service_pb2 as pb

from fictures import InvalidRequest, ServerError
from fictures.tensors import inputs_of
from fictures.translation import fictures_api as api
from fictures.translation.answers import joined

# # Requests for text


def test_a_prompt_is_all_that_a_text_needs() -> None:
    call = text_call()
    assert sampling(call) == {"max_tokens": 2048, "temperature": 0.7, "top_p": 0.9}
    sent = inputs(call)
    del sent["sampling_parameters"]
    assert sent == {
        "text_input": "Once",
        "stream": False,
        "exclude_input_in_output": True,
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def test_what_is_given_is_sent() -> None:
    call = text_call(max_tokens=9, temperature=1.5, top_p=0.25, stop_sequences=["END", "\n\n"])
    assert sampling(call) == {"max_tokens": 9, "temperature": 1.5, "top_p": 0.25, "stop": ["END", "\n\n"]}


def test_a_request_goes_to_the_model_with_the_callers_id() -> None:
    request = text_call().to_triton(stream=True, request_id="abc")
    assert (request.model_name, request.id) == ("gemma", "abc")
    assert inputs_of(request)["stream"] == [True]
    assert request.parameters["triton_enable_empty_final_response"].bool_param is True


@pytest.mark.parametrize("prompt", ["naïve ☕ 𝄞", "\x00\x1b[0m", " ", "line\r\nline", "\ufeff\u202e", "x" * 100_000])
def test_any_text_is_a_prompt_and_arrives_unchanged(prompt: str) -> None:
    assert inputs(text_call(prompt=prompt))["text_input"] == prompt


def test_temperature_0_is_a_value() -> None:
    assert sampling(text_call(temperature=0)) == {"max_tokens": 2048, "temperature": 0, "top_p": 0.9}


@pytest.mark.parametrize("top_p", [0, 0.0, -0.0])
def test_top_p_0_means_greedy_whatever_the_temperature_is(top_p: float) -> None:
    sent = sampling(text_call(top_p=top_p, temperature=1.5))
    assert (sent["temperature"], sent["top_p"]) == (0, 1)


@pytest.mark.parametrize("stops", [None, []])
def test_no_stop_sequences_may_be_said_in_so_many_words(stops: list[str] | None) -> None:
    assert not sampling(text_call(stop_sequences=stops)).get("stop")


TEXT_LIMITS: list[tuple[str, list[Any], list[Any]]] = [
    ("max_tokens", [1, 8192], [0, -1, 8193, 10**30]),
    ("temperature", [0, 2, 2.0], [-0.01, 2.01, math.nan, math.inf, -math.inf, 10**400]),
    ("top_p", [0, 1, 1e-300], [-0.01, 1.01, math.nan, math.inf]),
    ("stop_sequences", [["a"] * 64, ["x" * 10_000]], [["a"] * 65]),
    ("prompt", ["a"], [""]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, within, _ in TEXT_LIMITS for value in within], ids=reprlib.repr
)
def test_a_text_request_within_the_limits_is_taken(field: str, value: Any) -> None:
    text_call(**{field: value}).to_triton(stream=False)


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, _, beyond in TEXT_LIMITS for value in beyond], ids=reprlib.repr
)
def test_a_text_request_beyond_them_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    assert refused(api.TextRequest, {"prompt": "Once", field: value}) == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name in ("max_tokens", "temperature", "top_p") for value in NUMBERS_ARE_NOT]
    + [("max_tokens", 5.0)]
    + [("prompt", value) for value in (5, None, ["Once"], {}, "half \ud800")]
    + [("stop_sequences", value) for value in ("END", 5, {})],
    ids=reprlib.repr,
)
def test_a_value_of_another_type_is_refused_and_never_converted(field: str, value: Any) -> None:
    assert refused(api.TextRequest, {"prompt": "Once", field: value}) == {field}


@pytest.mark.parametrize("stop", ["", 5, None, "\udfff"])
def test_each_stop_sequence_is_a_text_of_one_character_or_more(stop: Any) -> None:
    assert refused(api.TextRequest, {"prompt": "Once", "stop_sequences": ["a", stop]}) == {"stop_sequences.1"}


@pytest.mark.parametrize("field", ["model", "n", "seed", "stream", "top_k", "Temperature", "guided_decoding", ""])
def test_a_field_that_a_text_does_not_have_is_refused(field: str) -> None:
    assert refused(api.TextRequest, {"prompt": "Once", field: 1}) == {field}


@pytest.mark.parametrize(
    "model", [api.TextRequest, api.StructuredTextRequest, api.ImageRequest, api.ImageStreamRequest]
)
def test_a_prompt_is_required(model: type[BaseModel]) -> None:
    assert "prompt" in refused(model, {})


@pytest.mark.parametrize("body", [[], "Once", 5, None, [{"prompt": "Once"}]])
def test_a_body_is_an_object(body: Any) -> None:
    assert refused(api.TextRequest, body) == {""}


def test_a_body_of_thousands_of_fields_is_one_error() -> None:
    assert refused(api.TextRequest, dict.fromkeys(map(str, range(5000)))) == {""}


# # Requests for text that has a form


FORMS: list[tuple[str, Any]] = [
    ("json", {"type": "object", "properties": {"a": {"type": "integer"}}}),
    ("json", {}),
    ("regex", r"\d{3}-\d{4}"),
    ("choice", ["yes", "no"]),
    ("choice", ["only"]),
    ("grammar", 'root ::= "a"'),
]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_each_form_becomes_vllms_structured_outputs(kind: str, form: Any) -> None:
    sent = sampling(guided_call(type=kind, **{kind: form}))
    assert json.loads(sent.pop("structured_outputs")) == {kind: form}
    assert sent == {"max_tokens": 2048, "temperature": 0.7, "top_p": 0.9}


def test_the_forms_that_are_not_meant_may_be_null() -> None:
    call = guided_call(type="regex", regex="a+", json=None, choice=None, grammar=None)
    assert json.loads(sampling(call)["structured_outputs"]) == {"regex": "a+"}


def test_a_text_that_has_a_form_takes_what_other_texts_take() -> None:
    body = {"prompt": "Once", "top_p": 0, "max_tokens": 3}
    call = api.StructuredTextRequest(**body, guided_decoding={"type": "regex", "regex": "a"}).to_call("gemma")
    sent = sampling(call)
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0, 1, 3)


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_but_for_stop_sequences_which_could_end_it_before_its_form_is_complete(kind: str, form: Any) -> None:
    body = {"prompt": "Once", "guided_decoding": {"type": kind, kind: form}, "stop_sequences": ["e"]}
    assert refused(api.StructuredTextRequest, body) == {"stop_sequences"}


@pytest.mark.parametrize(
    ("guided", "place"),
    [
        ({}, "guided_decoding.type"),
        ({"type": "xml"}, "guided_decoding.type"),
        ({"type": "JSON", "json": {}}, "guided_decoding.type"),
        ({"type": ["json"], "json": {}}, "guided_decoding.type"),
        ({"type": "json"}, "guided_decoding"),
        ({"type": "json", "regex": "a"}, "guided_decoding"),
        ({"type": "json", "json": {}, "regex": "a"}, "guided_decoding"),
        ({"type": "choice", "choice": ["a"], "grammar": "a"}, "guided_decoding"),
        ({"type": "json", "json": None}, "guided_decoding"),
        ({"type": "json", "json": '{"type": "object"}'}, "guided_decoding.json"),
        ({"type": "json", "json": []}, "guided_decoding.json"),
        ({"type": "json", "json_schema": {}}, "guided_decoding.json_schema"),
        ({"type": "regex", "regex": ""}, "guided_decoding.regex"),
        ({"type": "regex", "regex": ["a"]}, "guided_decoding.regex"),
        ({"type": "choice", "choice": []}, "guided_decoding.choice"),
        ({"type": "choice", "choice": "yes"}, "guided_decoding.choice"),
        ({"type": "choice", "choice": ["yes", ""]}, "guided_decoding.choice.1"),
        ({"type": "grammar", "grammar": ""}, "guided_decoding.grammar"),
        ({"type": "grammar", "grammar": {"root": "a"}}, "guided_decoding.grammar"),
        ({"type": "regex", "regex": "a", "backend": "xgrammar"}, "guided_decoding.backend"),
        (None, "guided_decoding"),
        ("json", "guided_decoding"),
    ],
    ids=reprlib.repr,
)
def test_a_form_that_does_not_fit_its_type_is_refused(guided: Any, place: str) -> None:
    assert place in refused(api.StructuredTextRequest, {"prompt": "Once", "guided_decoding": guided})


def test_a_form_must_be_given_where_one_is_promised() -> None:
    assert refused(api.StructuredTextRequest, {"prompt": "Once"}) == {"guided_decoding"}


def test_a_schema_that_is_no_json_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match=r"^structured_outputs: "):
        guided_call(type="json", json={"maximum": math.nan}).to_triton(stream=False)


# # Answers with text


def test_a_text_comes_with_its_reason_and_how_many_tokens_it_took() -> None:
    (answer,) = read(text("one two", reasons=["stop"], tokens=[4]))
    assert api.text_response(answer, "gemma").model_dump() == {
        "text": "one two",
        "model": "gemma",
        "tokens_used": 4,
        "finish_reason": "stop",
    }


def test_several_responses_make_one_text() -> None:
    answer = joined(read(text("one "), text("two", reasons=["length"], tokens=[3]), pb.ModelInferResponse()))
    told = api.text_response(answer, "gemma")
    assert (told.text, told.tokens_used, told.finish_reason) == ("one two", 4, "length")


def test_a_text_that_does_not_say_why_it_ended_has_stopped() -> None:
    (answer,) = read(text("one"))
    assert api.text_response(answer, "gemma").finish_reason == "stop"


def test_an_empty_text_is_an_answer() -> None:
    answer = joined(read(text("", reasons=["stop"], tokens=[0])))
    assert api.text_response(answer, "gemma").text == ""


def test_each_event_has_what_is_new_and_the_tokens_so_far_and_the_last_says_so() -> None:
    to_event = api.TextEvents("gemma")
    answers = read(text("one "), text("two", tokens=[3]), text("", reasons=["stop"], tokens=[0]))
    assert [to_event(answer).model_dump() for answer in answers] == [
        {"text": "one ", "model": "gemma", "tokens_used": 1, "finish_reason": None, "done": False},
        {"text": "two", "model": "gemma", "tokens_used": 4, "finish_reason": None, "done": False},
        {"text": "", "model": "gemma", "tokens_used": 4, "finish_reason": "stop", "done": True},
    ]


def test_a_response_that_says_nothing_new_is_no_event() -> None:
    assert read(text("", tokens=[0]), pb.ModelInferResponse(), response()) == []
    ended = text("end", reasons=["stop"])
    assert len(read(ended, ended)) == 1


def test_half_a_character_does_not_end_the_stream() -> None:
    first, second = read(text("é".encode()[:1]), text("é".encode()[1:]))
    assert api.TextEvents("gemma")(first).text == "\ufffd"
    assert second.pieces[0].text == "\ufffd"


@pytest.mark.parametrize("changed", [{"finish_reason": ("BYTES", [])}, {"num_output_tokens": ("UINT32", [1, 2])}, {}])
def test_tensors_that_do_not_fit_each_other_are_the_servers_fault(changed: dict[str, Any]) -> None:
    values = {"finish_reason": ("BYTES", [b"stop"]), "num_output_tokens": ("UINT32", [1])} | changed
    if not changed:
        del values["num_output_tokens"]
    with pytest.raises(ServerError, match="1 texts and other numbers"):
        read(response(text_output=("BYTES", [b"one"]), **values))


def test_what_a_stream_does_not_repeat_is_remembered() -> None:
    def told(*texts: bytes, tokens: list[int], **changed: Any) -> pb.ModelInferResponse:
        return response(text_output=("BYTES", list(texts)), num_output_tokens=("UINT32", tokens), **changed)

    answers = read(
        told(b"a", b"x", tokens=[1, 1], num_input_tokens=("UINT32", [7])),
        told(b"b", b"", tokens=[1, 0]),
        told(b"c", b"y", tokens=[1, 1], finish_reason=("BYTES", [b"stop", b"None"])),
        told(b"", b"z", tokens=[0, 1], finish_reason=("BYTES", [b"stop", b"length"])),
    )
    assert [answer.num_input_tokens for answer in answers] == [7] * 4
    pieces = [[(piece.index, piece.text, piece.finish_reason) for piece in answer.pieces] for answer in answers]
    assert pieces == [
        [(0, "a", None), (1, "x", None)],
        [(0, "b", None)],
        [(0, "c", "stop"), (1, "y", None)],
        [(1, "z", "length")],
    ]


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_text_that_was_not_let_come_to_its_end_is_the_servers_fault(reason: str) -> None:
    with pytest.raises(ServerError, match=f"before it was complete: {reason}"):
        read(text("half", reasons=[reason]))


def test_an_answer_without_text_is_the_servers_fault() -> None:
    with pytest.raises(ServerError, match="without text"):
        joined(read(pb.ModelInferResponse()))


def test_the_event_of_an_error_says_what_the_status_would_have_been_and_is_the_last() -> None:
    assert api.ErrorEvent(error="no", status=503).model_dump() == {"error": "no", "status": 503, "done": True}


# # Answers with text that has a form


def structured(output: str, form: str, reason: str = "stop") -> api.StructuredTextResponse:
    (answer,) = read(text(output, reasons=[reason], tokens=[5]))
    return api.structured_response(answer, "gemma", form)


def test_json_comes_as_text_and_as_what_it_says() -> None:
    assert structured('{"a": [1, null]}', "json").model_dump() == {
        "output": '{"a": [1, null]}',
        "parsed_output": {"a": [1, None]},
        "model": "gemma",
        "tokens_used": 5,
        "finish_reason": "stop",
        "is_valid": True,
    }


@pytest.mark.parametrize(
    ("output", "parsed"), [("null", None), ("0", 0), ('""', ""), (" [ ] \n", []), ("1e3", 1000.0), ('"\\u00e9"', "é")]
)
def test_any_json_value_is_valid(output: str, parsed: Any) -> None:
    told = structured(output, "json")
    assert (told.parsed_output, told.is_valid) == (parsed, True)


@pytest.mark.parametrize("output", ["", '{"a": ', "[1", '"half', "{}{}", "plain"])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_json_that_is_not_complete_is_not_valid(output: str, reason: str) -> None:
    told = structured(output, "json", reason)
    assert (told.output, told.parsed_output, told.is_valid, told.finish_reason) == (output, None, False, reason)


@pytest.mark.parametrize("form", ["regex", "choice", "grammar"])
def test_other_forms_are_valid_once_the_text_has_stopped(form: str) -> None:
    assert structured('{"a": 1}', form).parsed_output is None
    assert structured("yes", form).is_valid
    assert not structured("ye", form, "length").is_valid


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(
            '"\\ud800"',
        ),
        pytest.param(
            "[" * 5000,
        ),
    ],
    ids=["surrogate", "nested"],
)
def test_whatever_the_model_writes_can_be_sent_on(output: str) -> None:
    told = structured(output, "json", "length")
    assert json.loads(told.model_dump_json())["output"] == output


@pytest.mark.parametrize("output", ["NaN", "[-Infinity]"])
def test_what_only_python_takes_for_json_is_not_valid(output: str) -> None:
    assert not structured(output, "json").is_valid


@pytest.mark.parametrize(
    ("output", "is_valid"), [("12", False), ("true", False), ('"a"', True), ("[1]", True), ("{}", True)]
)
def test_what_the_most_tokens_cut_off_is_valid_only_if_it_says_itself_that_it_is_whole(
    output: str, is_valid: bool
) -> None:
    assert structured(output, "json", "length").is_valid == is_valid
    assert structured(output, "json", "stop").is_valid
