"""What the tests of the translation share: requests made small, responses made by hand, and both read again."""

import json
import struct
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, ValidationError
from tritonclient.grpc import service_pb2 as pb

from fictures.tensors import inputs_of
from fictures.translation import fictures_api as api
from fictures.translation.answers import TextAnswer, TextReader, joined
from fictures.translation.calls import ImageCall, TextCall
from fictures.translation.openai_requests import ChatRequest, CompletionRequest, ImagesRequest
from fictures.translation.openai_text import Completions

FORMATS = {"INT32": "i", "UINT32": "I", "INT64": "q"}
NUMBERS_ARE_NOT = ["5", "", True, None, [1], {}]
"""Values of other types, none of which is taken for a number."""


def response(**outputs: tuple[str, list[Any]]) -> pb.ModelInferResponse:
    """A response of these outputs, each a name to a type and its values."""
    answer = pb.ModelInferResponse()
    for name, (datatype, values) in outputs.items():
        answer.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        if datatype == "BYTES":
            raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
        else:
            raw = struct.pack(f"<{len(values)}{FORMATS[datatype]}", *values)
        answer.raw_output_contents.append(raw)
    return answer


def text(*texts: str | bytes, reasons: list[str] | None = None, tokens: list[int] | None = None, **outputs: Any) -> Any:
    """A response of the text model: a piece of each text, one token each unless said otherwise."""
    return response(
        text_output=("BYTES", [piece.encode() if isinstance(piece, str) else piece for piece in texts]),
        finish_reason=("BYTES", [reason.encode() for reason in reasons or ["None"] * len(texts)]),
        num_input_tokens=("UINT32", [7]),
        num_output_tokens=("UINT32", tokens or [1] * len(texts)),
        **outputs,
    )


def read(*responses: pb.ModelInferResponse) -> list[TextAnswer]:
    """What the responses of one request say."""
    reader = TextReader()
    return [answer for answer in map(reader, responses) if answer is not None]


def inputs(call: TextCall | ImageCall, *, stream: bool = False) -> dict[str, Any]:
    """The tensors of a call, all of which have one element."""
    decoded = inputs_of(call.to_triton(stream=stream))
    assert all(len(values) == 1 for values in decoded.values())
    return {name: values[0] for name, values in decoded.items()}


def sampling(call: TextCall) -> dict[str, Any]:
    """The sampling parameters that a call sends."""
    parameters: dict[str, Any] = json.loads(inputs(call)["sampling_parameters"])
    return parameters


def refused(model: type[BaseModel], body: Any) -> set[str]:
    """The fields for which a body is refused."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return {".".join(map(str, error["loc"])) for error in caught.value.errors()}


def text_call(**fields: Any) -> TextCall:
    return api.TextRequest.model_validate({"prompt": "Once", **fields}).to_call("gemma")


def guided_call(**guided_decoding: Any) -> TextCall:
    body = {"prompt": "Once", "guided_decoding": guided_decoding}
    return api.StructuredTextRequest.model_validate(body).to_call("gemma")


def image_call(**fields: Any) -> ImageCall:
    return api.ImageRequest.model_validate({"prompt": "harbour", **fields}).to_call("sdxl")


def image_stream_call(**fields: Any) -> ImageCall:
    return api.ImageStreamRequest.model_validate({"prompt": "harbour", **fields}).to_call("sdxl")


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

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}


def completions(**fields: Any) -> Completions:
    return Completions(parse(CompletionRequest, **fields), "cmpl-1", 1234)
