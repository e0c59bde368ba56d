"""The Fictures API: its requests to calls, and Triton's answers to its responses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import from_json

from fictures.translation.answers import ImageFile, ImageStep, TextAnswer, base64_text
from fictures.translation.body import Body
from fictures.translation.calls import ImageCall, TextCall

MOST_CHARACTERS = 10_000
"""Of an image prompt, as the image model allows."""

Side = Annotated[int, Field(ge=256, le=2048, multiple_of=8)]
Prompt = Annotated[str, StringConstraints(min_length=1)]
ImagePrompt = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS, pattern=r"\S")]


class _SampledText(Body):
    """What texts with and without a form have in common."""

    prompt: Prompt = Field(description="The text to continue, as the model sees it.")
    max_tokens: int = Field(2048, ge=1, le=8192, description="Most tokens to generate.")
    temperature: float = Field(0.7, ge=0, le=2, description="0 always takes the likeliest token.")
    top_p: float = Field(
        0.9, ge=0, le=1, description="Choose among the likeliest tokens that together have this probability; 0: greedy."
    )

    def to_call(self, model: str) -> TextCall:
        """The call to text model `model`."""
        return TextCall(model, self.prompt, sampling=self._sampling())

    def _sampling(self) -> dict[str, Any]:
        # The likeliest token alone has the probability 0: what top_p=0 asks for is greedy, and vLLM takes no zero.
        greedy = self.top_p == 0
        return {
            "max_tokens": self.max_tokens,
            "temperature": 0.0 if greedy else self.temperature,
            "top_p": 1.0 if greedy else self.top_p,
        }


class TextRequest(_SampledText):
    """Text to generate, at once or streamed."""

    stop_sequences: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(fail_fast=True)] | None = (
        Field(None, max_length=64, description="End before any of these texts.")
    )

    def _sampling(self) -> dict[str, Any]:
        return {**super()._sampling(), "stop": self.stop_sequences}


class GuidedDecoding(Body):
    """The form that a text must have: the field of the same name as `type`, and no other."""

    type: Literal["json", "regex", "choice", "grammar"] = Field(description="Which kind of form.")
    json_schema: dict[str, Any] | None = Field(None, alias="json", description="A JSON schema.")
    regex: Annotated[str, StringConstraints(min_length=1)] | None = Field(None, description="A regular expression.")
    choice: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(fail_fast=True)] | None = Field(
        None, min_length=1, max_length=10_000, description="The texts to choose from."
    )
    grammar: Annotated[str, StringConstraints(min_length=1)] | None = Field(None, description="A grammar in EBNF.")

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        given = {"json": self.json_schema, "regex": self.regex, "choice": self.choice, "grammar": self.grammar}
        present = [name for name, value in given.items() if value is not None]
        if present != [self.type]:
            raise ValueError(f"type is {self.type}: {self.type} must be given, and no other; given: {present}")
        return self

    @property
    def form(self) -> dict[str, Any]:
        """vLLM's `structured_outputs`."""
        value = {"json": self.json_schema, "regex": self.regex, "choice": self.choice, "grammar": self.grammar}
        return {self.type: value[self.type]}


class StructuredTextRequest(_SampledText):
    """Text that must have a form. It has no stop sequences: where one ends a text, its form need not be complete."""

    guided_decoding: GuidedDecoding

    def _sampling(self) -> dict[str, Any]:
        return {**super()._sampling(), "structured_outputs": self.guided_decoding.form}


class ImageRequest(Body):
    """An image to draw."""

    prompt: ImagePrompt = Field(description="What is to be seen.")
    negative_prompt: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)] | None = Field(
        None, description="What is not to be seen."
    )
    width: Side = Field(1344, description="Pixels.")
    height: Side = Field(768, description="Pixels.")
    num_inference_steps: int = Field(30, ge=1, le=100, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=1, le=20, description="Weight of the prompt; 1: no guidance.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Same seed, same image; random if not given.")

    def to_call(self, model: str) -> ImageCall:
        """The call to image model `model`."""
        given = self.model_dump(exclude_none=True, exclude={"preview_every"})
        return ImageCall(model, given)


class ImageStreamRequest(ImageRequest):
    """An image to draw, with its progress."""

    preview_every: int = Field(0, ge=0, le=100, description="A small JPEG every so many steps; 0: none.")

    def to_call(self, model: str) -> ImageCall:
        """The call to image model `model`."""
        return ImageCall(model, super().to_call(model).parameters, preview_every=self.preview_every)


class TextResponse(BaseModel):
    """A whole text, without its prompt."""

    text: str
    model: str
    tokens_used: int = Field(description="Tokens generated.")
    finish_reason: str = Field(description="`stop` or `length`.")


class TextEvent(BaseModel):
    """One event of a text stream."""

    text: str = Field(description="The new piece.")
    model: str
    tokens_used: int = Field(description="Tokens generated so far.")
    finish_reason: str | None
    done: bool = Field(description="True in the last event only.")


class StructuredTextResponse(BaseModel):
    """A text in the form that was asked for."""

    output: str
    parsed_output: Any = Field(None, description="`output` read as JSON, where a JSON schema was asked for.")
    model: str
    tokens_used: int
    finish_reason: str
    is_valid: bool = Field(description="False when the text ended, with `length`, before the form was complete.")


class ImageResponse(BaseModel):
    """An image."""

    image_url: str = Field(description="`data:image/png;base64,…`")
    model: str
    width: int
    height: int
    seed: int


class ImageEvent(BaseModel):
    """One event of an image stream: a step that was done, or, at the end, the image."""

    step: int
    total_steps: int
    preview_url: str | None = Field(None, description="`data:image/jpeg;base64,…`, small.")
    image_url: str | None = Field(None, description="In the last event.")
    model: str
    width: int
    height: int
    seed: int | None = Field(None, description="In the last event.")
    done: bool


class ErrorEvent(BaseModel):
    """The last event of a stream that failed."""

    error: str
    status: int = Field(description="The HTTP status that the error would have had before the stream began.")
    done: Literal[True] = True


def text_response(answer: TextAnswer, model: str) -> TextResponse:
    """The body that answers a `TextRequest`."""
    (piece,) = answer.pieces
    return TextResponse(
        text=piece.text,
        model=model,
        tokens_used=piece.num_output_tokens,
        finish_reason=piece.finish_reason or "stop",
    )


def structured_response(answer: TextAnswer, model: str, form: str) -> StructuredTextResponse:
    """The body that answers a `StructuredTextRequest` of guided decoding type `form`."""
    plain = text_response(answer, model)
    parsed, is_valid = None, plain.finish_reason == "stop"
    if form == "json":
        try:
            # Stricter than Python's own: no NaN, no half of a surrogate pair, no depth without bounds.
            parsed = from_json(plain.text, allow_inf_nan=False)
            json.dumps(parsed, allow_nan=False)  # a number may be too large for any float
            # Where a number, true or null ends, only the text's end tells.
            is_valid = is_valid or isinstance(parsed, dict | list | str)
        except ValueError:
            parsed, is_valid = None, False
    return StructuredTextResponse(
        output=plain.text,
        parsed_output=parsed,
        model=model,
        tokens_used=plain.tokens_used,
        finish_reason=plain.finish_reason,
        is_valid=is_valid,
    )


class TextEvents:
    """Turns the answers of a text stream into its events."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._tokens = 0

    def __call__(self, answer: TextAnswer) -> TextEvent:
        """The event that tells of `answer`."""
        (piece,) = answer.pieces
        self._tokens += piece.num_output_tokens
        return TextEvent(
            text=piece.text,
            model=self._model,
            tokens_used=self._tokens,
            finish_reason=piece.finish_reason,
            done=piece.finish_reason is not None,
        )


def image_response(file: ImageFile, request: ImageRequest, model: str) -> ImageResponse:
    """The body that answers an `ImageRequest`."""
    return ImageResponse(
        image_url=data_url(file.data, "png"), model=model, width=request.width, height=request.height, seed=file.seed
    )


def image_event(event: ImageStep | tuple[ImageFile, ...], request: ImageRequest, model: str) -> ImageEvent:
    """The event that tells of a step, or of the image."""
    common: dict[str, Any] = {"model": model, "width": request.width, "height": request.height}
    if isinstance(event, ImageStep):
        preview = data_url(event.previews[0], "jpeg") if event.previews else None
        return ImageEvent(step=event.step, total_steps=event.total_steps, preview_url=preview, done=False, **common)
    (file,) = event
    steps = request.num_inference_steps
    url = data_url(file.data, "png")
    return ImageEvent(step=steps, total_steps=steps, image_url=url, seed=file.seed, done=True, **common)


def data_url(data: bytes, kind: str) -> str:
    """A file of image format `kind` as a URL that holds it."""
    return f"data:image/{kind};base64,{base64_text(data)}"
