"""The OpenAI API's requests to calls. What is not supported is refused by its name.

Beside OpenAI's parameters these take vLLM's and the image model's own, which OpenAI's SDK sends as `extra_body`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fictures.translation.body import Body
from fictures.translation.calls import ImageCall, TextCall
from fictures.translation.fictures_api import MOST_CHARACTERS, ImagePrompt

UNTIL_THE_CONTEXT_ENDS = 2**20
"""More tokens than any context has: the server ends a text, with `length`, where the model's context ends."""

MOST_BIASES = 1024
"""Tokens in `logit_bias`."""

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Stop = NonEmpty | Annotated[list[NonEmpty], Field(max_length=64, fail_fast=True)]

_NOT_SAMPLING = ("stream", "stream_options")

# Values that ask for what is done anyway, of parameters that are otherwise not supported.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "background": ("auto", "opaque"),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "metadata": ({},),
    "modalities": (["text"],),
    "moderation": ("auto", "low"),
    "parallel_tool_calls": (True, False),
    "quality": ("auto", "standard"),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "style": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}


class _Request(Body):
    """A request's body. Null is the same as not given."""

    model: NonEmpty = Field(description="A model of `GET /v1/models`.")
    user: str | None = Field(None, description="Taken, and not used.")
    safety_identifier: str | None = Field(None, description="Taken, and not used.")
    prompt_cache_key: str | None = Field(None, description="Taken, and not used.")

    @classmethod
    def _says_nothing(cls, name: str, value: Any) -> bool:
        neutral = () if name in cls.model_fields else _WITHOUT_EFFECT.get(name, ())
        return value is None or any(type(value) is type(one) and value == one for one in neutral)


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool = Field(False, description="One more event, with the number of tokens, before the end.")
    include_obfuscation: Literal[False] = Field(False, description="Not supported.")


def _not_too_many(biases: Any) -> Any:
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        raise PydanticCustomError("too_long", "more than {most} tokens", {"most": MOST_BIASES})
    return biases


class _TextRequest(_Request):
    """What completions and chat completions have in common."""

    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=64, description="How many texts.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens to generate.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 always takes the likeliest token; 1.")
    top_p: float | None = Field(None, ge=0, le=1, description="Choose among the likeliest tokens; 1. 0: greedy.")
    stop: Stop | None = Field(None, description="End before any of these texts.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, description="Same seed, same text.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[str, float], BeforeValidator(_not_too_many)] | None = Field(
        None, description="Token id to a number from -100 to 100; 1024 tokens at most."
    )

    top_k: int | None = Field(None, ge=-1, description="vLLM's: choose among this many likeliest tokens; 0: all.")
    min_p: float | None = Field(None, ge=0, le=1, description="vLLM's.")
    repetition_penalty: float | None = Field(None, gt=0, le=100, description="vLLM's.")
    min_tokens: int | None = Field(None, ge=0, description="vLLM's: fewest tokens to generate.")
    stop_token_ids: Annotated[list[int], Field(fail_fast=True)] | None = Field(
        None, max_length=1024, description="vLLM's."
    )
    bad_words: Annotated[list[NonEmpty], Field(fail_fast=True)] | None = Field(
        None, max_length=64, description="vLLM's: texts that must not appear."
    )
    ignore_eos: bool | None = Field(None, description="vLLM's: go on where the model would end.")
    include_stop_str_in_output: bool | None = Field(None, description="vLLM's.")
    skip_special_tokens: bool | None = Field(None, description="vLLM's.")
    structured_outputs: dict[str, Any] | None = Field(
        None, description="vLLM's: one of `json`, `regex`, `choice`, `grammar`, `json_object`."
    )
    lora_name: NonEmpty | None = Field(None, description="An adapter of the model.")
    stream_interval_ms: int | None = Field(
        None, ge=0, le=1000, description="Longest time that text of a stream waits for more; 0: each token by itself."
    )

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> _TextRequest:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options: only together with stream")
        return self

    def _sampling(self) -> dict[str, Any]:
        names = [name for name in _TextRequest.model_fields if name not in (*_Request.model_fields, *_NOT_SAMPLING)]
        sampling = {name: getattr(self, name) for name in names}
        if self.top_p == 0:  # the likeliest token alone, which vLLM calls temperature 0
            sampling |= {"top_p": None, "temperature": 0.0}
        return {name: value for name, value in sampling.items() if value is not None}


class CompletionRequest(_TextRequest):
    """`POST /v1/completions`: continue a text."""

    prompt: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1, max_length=64, fail_fast=True)] = Field(
        description="The text as the model sees it, or several."
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="How many likeliest tokens to tell of at each place.")
    echo: bool = Field(False, description="Put the prompt in front of the text; not together with logprobs.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _no_tokens(cls, prompt: Any) -> Any:
        if isinstance(prompt, list) and any(isinstance(part, (int, list)) for part in prompt):
            raise PydanticCustomError("tokens", "token ids are not supported: a text, or a list of texts")
        return prompt

    @model_validator(mode="after")
    def _echo_without_logprobs(self) -> CompletionRequest:
        if self.echo and self.logprobs is not None:
            raise PydanticCustomError("echo", "echo: not supported together with logprobs")
        return self

    @property
    def prompts(self) -> list[str]:
        """Each gets `n` texts."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def to_calls(self) -> list[TextCall]:
        """A call for each prompt."""
        sampling = {**self._sampling(), "logprobs": self.logprobs}
        with_logprobs = self.logprobs is not None
        return [TextCall(self.model, prompt, sampling=sampling, with_logprobs=with_logprobs) for prompt in self.prompts]


class ImageUrl(Body):
    """A picture in a message."""

    url: Annotated[str, StringConstraints(pattern="^data:")] = Field(description="`data:image/png;base64,…`.")
    detail: Literal["auto", "low", "high"] = Field("auto", description="Taken, and not used.")


class TextPart(Body):
    """A text in a message."""

    type: Literal["text"]
    text: str


class ImagePart(Body):
    """A picture in a message, for models that read pictures."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(Body):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        str
        | Annotated[
            list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(max_length=1024, fail_fast=True)
        ]
    )
    name: str | None = Field(None, description="Given to the chat template, as all of a message.")

    @classmethod
    def _says_nothing(cls, name: str, value: Any) -> bool:
        """An answer that is sent back has many nulls, such as `refusal`."""
        return value is None

    def to_template(self) -> dict[str, Any]:
        """The message as chat templates know it, which have no role `developer`."""
        message = self.model_dump(exclude_none=True)
        return message | {"role": "system"} if self.role == "developer" else message


class JsonSchema(Body):
    """A JSON schema with a name."""

    model_config = ConfigDict(populate_by_name=True)

    name: NonEmpty
    description: str | None = None
    definition: dict[str, Any] = Field(alias="schema")
    strict: bool | None = Field(None, description="The schema always holds.")


class ResponseFormat(Body):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("json_schema", "json_schema: must be given with type json_schema, and only then")
        return self

    @property
    def form(self) -> dict[str, Any] | None:
        """vLLM's `structured_outputs`."""
        if self.json_schema is not None:
            return {"json": self.json_schema.definition}
        return {"json_object": True} if self.type == "json_object" else None


class ChatRequest(_TextRequest):
    """`POST /v1/chat/completions`: answer a chat."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000, fail_fast=True)]
    max_completion_tokens: int | None = Field(None, ge=1, description="The same as `max_tokens`, and wins over it.")
    logprobs: bool = Field(False, description="Tell how likely each token was.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="How many likeliest tokens; with `logprobs`.")
    response_format: ResponseFormat | None = None
    chat_template_kwargs: dict[str, Any] = Field({}, description="vLLM's: further variables of the chat template.")

    @model_validator(mode="after")
    def _what_goes_together(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "top_logprobs: only together with logprobs")
        if self.structured_outputs is not None and self.response_format and self.response_format.form:
            raise PydanticCustomError("response_format", "response_format: not together with structured_outputs")
        return self

    def to_call(self) -> TextCall:
        """The call that answers the chat."""
        sampling = self._sampling()
        sampling["max_tokens"] = self.max_completion_tokens or self.max_tokens or UNTIL_THE_CONTEXT_ENDS
        if self.response_format and self.response_format.form:
            sampling["structured_outputs"] = self.response_format.form
        if self.logprobs:
            sampling["logprobs"] = self.top_logprobs or 0
        return TextCall(
            self.model,
            messages=[message.to_template() for message in self.messages],  # type: ignore[misc]
            chat_template_kwargs=self.chat_template_kwargs,
            sampling=sampling,
            with_logprobs=self.logprobs,
        )


_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


class ImagesRequest(_Request):
    """`POST /v1/images/generations`: draw images."""

    model: NonEmpty = Field("sdxl", description="An image model of `GET /v1/models`.")
    prompt: ImagePrompt
    n: int = Field(1, ge=1, le=4, description="How many images; 1 when streaming.")
    size: str = Field(
        "auto", description="`WIDTHxHEIGHT`, each a multiple of 8 from 256 to 2048; auto: the image model's own size."
    )
    output_format: Literal["png", "jpeg", "webp"] = "png"
    response_format: Literal["b64_json"] = Field("b64_json", description="URLs are not supported.")
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=3, description="How many previews, when streaming; small JPEG files.")

    negative_prompt: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)] | None = Field(
        None, description="The image model's: what is not to be seen."
    )
    num_inference_steps: int | None = Field(None, ge=1, le=100, description="The image model's: denoising steps.")
    guidance_scale: float | None = Field(None, ge=0, le=30, description="The image model's: weight of the prompt; 7.5.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="The image model's: same seed, same image.")
    scheduler: NonEmpty | None = Field(None, description="The image model's: how the noise is removed.")

    @field_validator("size")
    @classmethod
    def _sides(cls, size: str) -> str:
        match = _SIZE.fullmatch(size)
        if match and all(256 <= int(side) <= 2048 and int(side) % 8 == 0 for side in match.groups()):
            return size
        if size == "auto":
            return size
        raise PydanticCustomError("size", "must be WIDTHxHEIGHT, each a multiple of 8 from 256 to 2048, or auto")

    @model_validator(mode="after")
    def _what_goes_together(self) -> ImagesRequest:
        if self.stream and self.n != 1:
            raise PydanticCustomError("n", "n: must be 1 when streaming")
        if self.partial_images and not self.stream:
            raise PydanticCustomError("partial_images", "partial_images: only together with stream")
        return self

    @property
    def sides(self) -> dict[str, int]:
        """Width and height in pixels; nothing if they are left to the model."""
        match = _SIZE.fullmatch(self.size)
        return {"width": int(match[1]), "height": int(match[2])} if match else {}

    def steps_to_a_preview(self, total_steps: int) -> int:
        """After how many steps each a preview comes. The last step has none: there the image is done."""
        return max(1, total_steps // (self.partial_images + 1))

    def to_call(self) -> ImageCall:
        """The call that draws the images."""
        names = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "seed", "scheduler")
        given = {name: getattr(self, name) for name in (*names, "output_format") if getattr(self, name) is not None}
        # How many steps there are if none are given, only the model knows.
        every = self.steps_to_a_preview(self.num_inference_steps or 1)
        preview_every = every if self.partial_images else 0
        return ImageCall(self.model, given | self.sides, self.n, preview_every)
