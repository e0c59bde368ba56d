"""The table of sampling parameters: name, type, range and default of each one that a request may set.

Names and meaning are vLLM's (`vllm.SamplingParams`). A value may come as text, since request parameters over
HTTP and many clients know nothing else: `"0"` is 0, `"true"` is true, `"[1, 2]"` is a list.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from vllm.exceptions import VLLMClientError
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from text_backend.config import LONGEST_INTERVAL_MS
from text_backend.errors import InvalidArgument


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


def _json_if(opening: str) -> Any:
    """Text that starts with `opening` is read as JSON; other values stay as they are."""

    def read(value: Any) -> Any:
        if isinstance(value, str) and value.lstrip().startswith(opening):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value

    return BeforeValidator(read)


def _one_to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Int = Annotated[int, BeforeValidator(_no_bool)]
_Float = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, strict=True)]
_TokenId = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
_TextList = Annotated[
    list[_Text], Field(max_length=64), BeforeValidator(_one_to_list), _json_if("[")  # applied right to left
]
_TokenList = Annotated[list[_TokenId], Field(max_length=1024), _json_if("[")]


_GREEDY = 1e-5  # vLLM samples greedily below this temperature


def _combination(name: str, value: Any, allowed: str) -> PydanticCustomError:
    return PydanticCustomError("combination", "{allowed}", {"name": name, "value": value, "allowed": allowed})


class StructuredOutputs(BaseModel):
    """What the text must match: exactly one of the first five. Their syntax is checked by vLLM's grammar engine."""

    model_config = ConfigDict(extra="forbid")

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: _Text | None = None
    choice: Annotated[list[_Text], Field(min_length=1)] | None = None
    grammar: _Text | None = None
    json_object: Literal[True] | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: _Text | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = {"json": self.json_, "regex": self.regex, "choice": self.choice, "grammar": self.grammar}
        given = [name for name, value in (kinds | {"json_object": self.json_object}).items() if value is not None]
        if len(given) != 1:
            raise PydanticCustomError("kinds", "exactly one of json, regex, choice, grammar or json_object must be set")
        return self

    def to_vllm(self) -> StructuredOutputsParams:
        values = self.model_dump(by_alias=True, exclude_defaults=True)
        if isinstance(self.json_, dict):
            values["json"] = json.dumps(self.json_)  # as text: vLLM cannot send every JSON number to its engine
        return StructuredOutputsParams(**values)


class SamplingRequest(BaseModel):
    """The sampling parameters of one request. Unknown names are an error."""

    model_config = ConfigDict(extra="forbid")

    n: Annotated[_Int, Field(ge=1, le=64)] = 1
    temperature: Annotated[_Float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[_Float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[_Int, Field(ge=-1, le=2**31 - 1)] = 0
    min_p: Annotated[_Float, Field(ge=0, le=1)] = 0.0
    presence_penalty: Annotated[_Float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[_Float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[_Float, Field(gt=0, le=100)] = 1.0
    seed: Annotated[_Int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[_Int, Field(ge=1, le=2**31 - 1)] | None = 16
    min_tokens: Annotated[_Int, Field(ge=0, le=2**31 - 1)] = 0
    stop: _TextList | None = None
    stop_token_ids: _TokenList | None = None
    bad_words: _TextList | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    logprobs: Annotated[_Int, Field(ge=0)] | None = None
    logit_bias: Annotated[dict[_TokenId, Annotated[_Float, Field(ge=-100, le=100)]], _json_if("{")] | None = None
    allowed_token_ids: Annotated[list[_TokenId], Field(min_length=1), _json_if("[")] | None = None
    stream_interval: Annotated[_Int, Field(ge=1, le=4096)] | None = None
    stream_interval_ms: Annotated[_Int, Field(ge=0, le=LONGEST_INTERVAL_MS)] | None = None
    structured_outputs: Annotated[StructuredOutputs, _json_if("{")] | None = None
    lora_name: _Text | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.n > 1 and self.temperature < _GREEDY:
            raise _combination("n", self.n, "must be 1 when temperature is 0, since all outputs would be the same")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise _combination("min_tokens", self.min_tokens, f"must be at most max_tokens, {self.max_tokens}")
        return self

    @property
    def longest_hold(self) -> float | None:
        """Seconds that text may be held back; who counts tokens wants no clock beside it. None: not said."""
        if self.stream_interval_ms is not None:
            return self.stream_interval_ms / 1000
        return None if self.stream_interval is None else 0.0

    @classmethod
    def parse(cls, parameters: dict[str, Any], known_loras: dict[str, str]) -> "SamplingRequest":
        """Checks a request's parameters. `None` stands for a parameter that was not given.

        Raises:
            InvalidArgument: naming the parameter, its value and what is allowed.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            sampling = cls.model_validate(given)
        except ValidationError as error:
            raise _explain(error) from None
        if sampling.lora_name is not None and sampling.lora_name not in known_loras:
            allowed = f"one of {sorted(known_loras)}" if known_loras else "this model serves no LoRA adapters"
            raise InvalidArgument.of("lora_name", sampling.lora_name, allowed)
        return sampling

    def to_vllm(self, *, stream: bool, vocabulary_size: int) -> SamplingParams:
        """vLLM's own parameters; what only vLLM can check is checked here too.

        Raises:
            InvalidArgument: vLLM refused a value or a combination of values.
        """
        self._check_token_ids(vocabulary_size)
        values = self.model_dump(exclude={"lora_name", "structured_outputs", "stream_interval_ms"})
        try:
            structured = self.structured_outputs.to_vllm() if self.structured_outputs else None
            return SamplingParams(
                **values,
                structured_outputs=structured,
                output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
                skip_clone=True,
            )
        except (ValueError, TypeError, VLLMClientError) as error:
            raise InvalidArgument(f"sampling parameters: {error}") from None

    def _check_token_ids(self, vocabulary_size: int) -> None:
        for name in ("stop_token_ids", "allowed_token_ids", "logit_bias"):
            for token_id in getattr(self, name) or ():
                if token_id >= vocabulary_size:
                    raise InvalidArgument.of(name, token_id, f"token ids of this model are 0 to {vocabulary_size - 1}")


def _explain(error: ValidationError) -> InvalidArgument:
    first = error.errors(include_url=False)[0]
    if first["type"] == "combination":
        return InvalidArgument.of(first["ctx"]["name"], first["ctx"]["value"], first["msg"])
    name = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("dict[", "function-")))
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(SamplingRequest.model_fields)
        return InvalidArgument.of(name, first["input"], f"there is no such sampling parameter; there are: {allowed}")
    return InvalidArgument.of(name, first["input"], first["msg"][:1].lower() + first["msg"][1:])
