"""A call as the path and the JSON body that Triton's HTTP endpoint takes."""

import json
import math
from typing import Any

import pytest

from fictures import InvalidRequest
from fictures.tensors import inputs_of
from fictures.translation.calls import ImageCall, TextCall
from fictures.translation.kserve import as_text, generate_body, infer_body, path_and_body

PROMPT = TextCall("gemma", "Once", sampling={"max_tokens": 5, "temperature": 0})
CHAT = TextCall(
    "gemma",
    messages=[{"role": "user", "content": "Hi"}],
    chat_template_kwargs={"thinking": True},
    sampling={"stop": "END", "seed": None},
    with_logprobs=True,
)
IMAGE = ImageCall("sdxl", {"prompt": "harbour", "width": 512, "guidance_scale": 2.5, "seed": 2**62}, preview_every=5)
ALWAYS: dict[str, Any] = {
    "exclude_input_in_output": True,
    "return_finish_reason": True,
    "return_num_input_tokens": True,
    "return_num_output_tokens": True,
}
CALLS = pytest.mark.parametrize("call", [PROMPT, CHAT, IMAGE], ids=["prompt", "chat", "image"])
STREAMED_OR_NOT = pytest.mark.parametrize("stream", [False, True])


@pytest.mark.parametrize(("stream", "path"), [(False, "generate"), (True, "generate_stream")])
def test_a_prompt_is_generated_from(stream: bool, path: str) -> None:
    assert path_and_body(PROMPT, stream=stream) == (
        f"/v2/models/gemma/{path}",
        {
            "text_input": "Once",
            "stream": stream,
            "sampling_parameters": '{"max_tokens": 5, "temperature": 0}',
            **ALWAYS,
        },
    )


@pytest.mark.parametrize(("stream", "path"), [(False, "generate"), (True, "generate_stream")])
def test_a_chat_is_generated_from_its_messages(stream: bool, path: str) -> None:
    assert path_and_body(CHAT, stream=stream) == (
        f"/v2/models/gemma/{path}",
        {
            "text_input": "",
            "stream": stream,
            "sampling_parameters": '{"stop": ["END"]}',
            "messages": '[{"role": "user", "content": "Hi"}]',
            "chat_template_kwargs": '{"thinking": true}',
            "return_logprobs": True,
            **ALWAYS,
        },
    )


def test_an_image_is_inferred_in_base64() -> None:
    path, body = path_and_body(ImageCall("sdxl", dict(IMAGE.parameters), num_images=2), stream=False)
    assert path == "/v2/models/sdxl/infer"
    assert body == {
        "inputs": [
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["harbour"]},
            {"name": "width", "datatype": "INT32", "shape": [1], "data": [512]},
            {"name": "guidance_scale", "datatype": "FP32", "shape": [1], "data": [2.5]},
            {"name": "seed", "datatype": "INT64", "shape": [1], "data": [2**62]},
            {"name": "num_images", "datatype": "INT32", "shape": [1], "data": [2]},
            {"name": "base64", "datatype": "BOOL", "shape": [1], "data": [True]},
        ]
    }


def test_a_streamed_image_is_generated_by_the_streaming_model() -> None:
    assert path_and_body(IMAGE, stream=True) == (
        "/v2/models/sdxl_stream/generate_stream",
        {
            "prompt": "harbour",
            "width": 512,
            "guidance_scale": 2.5,
            "seed": 2**62,
            "preview_every": 5,
            "base64": True,
        },
    )


@STREAMED_OR_NOT
@CALLS
def test_the_path_names_the_model_of_the_call(call: TextCall | ImageCall, stream: bool) -> None:
    named = TextCall("other", "Once") if isinstance(call, TextCall) else ImageCall("other", call.parameters)
    path, _ = path_and_body(named, stream=stream)
    assert path.startswith(
        "/v2/models/other_stream/" if isinstance(call, ImageCall) and stream else "/v2/models/other/"
    )


@STREAMED_OR_NOT
@CALLS
def test_a_body_holds_every_tensor_and_nothing_else(call: TextCall | ImageCall, stream: bool) -> None:
    _, body = path_and_body(call, stream=stream)
    sent = {tensor["name"]: tensor["data"] for tensor in body["inputs"]} if "inputs" in body else body
    assert {name: value if isinstance(value, list) else [value] for name, value in sent.items()} == {
        **inputs_of(call.to_triton(stream=stream)),
        **({"base64": [True]} if isinstance(call, ImageCall) else {}),
    }


@STREAMED_OR_NOT
@CALLS
def test_a_body_is_one_line_of_json_that_people_can_read(call: TextCall | ImageCall, stream: bool) -> None:
    _, body = path_and_body(call, stream=stream)
    assert json.loads(as_text(body)) == body
    line = as_text({"text_input": 'naïve "☕"\nnew'})
    assert line == r'{"text_input": "naïve \"☕\"\nnew"}'


def test_a_requests_id_is_in_its_body() -> None:
    assert generate_body(PROMPT.to_triton(stream=False, request_id="abc"))["id"] == "abc"
    assert infer_body(IMAGE.to_triton(stream=False, request_id="abc"))["id"] == "abc"
    assert "id" not in generate_body(PROMPT.to_triton(stream=False))
    assert "id" not in infer_body(IMAGE.to_triton(stream=False))


@STREAMED_OR_NOT
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (TextCall("gemma", "Once", sampling={"temperature": math.nan}), "sampling parameters"),
        (TextCall("gemma", "half \ud800"), "text_input"),
        (TextCall("gemma", messages=[]), "messages"),
        (ImageCall("sdxl", {"prompt": "harbour", "width": 2**31}), "width"),
        (ImageCall("sdxl", {"prompt": "harbour", "seed": 2**63}), "seed"),
        (ImageCall("sdxl", {"prompt": "harbour", "guidance_scale": 1e39}), "guidance_scale"),
        (ImageCall("sdxl", {"prompt": 5}), "prompt"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_name(call: TextCall | ImageCall, name: str, stream: bool) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: "):
        path_and_body(call, stream=stream)
