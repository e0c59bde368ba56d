"""Triton's responses as values that no API owns."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tritonclient.grpc import service_pb2

from fictures.errors import ServerError
from fictures.image_request import files_with_seeds
from fictures.tensors import first_of, outputs_of

FinishReason = Literal["stop", "length"]
_FINISH_REASONS: Mapping[bytes, FinishReason] = {b"stop": "stop", b"length": "length"}

_PIECE = 3 * 2**17
"""Bytes; a multiple of 3, after which base64 goes on as it began."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen, and how likely it and others were."""

    token: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...]
    """The likeliest tokens at this place, the likeliest first."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """What is new of one of a request's texts."""

    index: int
    text: str
    finish_reason: FinishReason | None
    num_output_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """What one response holds: a piece of each text that has something new."""

    pieces: tuple[TextPiece, ...]
    num_input_tokens: int


class TextReader:
    """Reads the responses of one request for text, streamed or not, with `OMIT_UNCHANGED` or without it."""

    def __init__(self) -> None:
        self._ended: set[int] = set()
        self._num_input_tokens = 0

    def is_complete(self, texts: int) -> bool:
        """Whether so many texts have come to their ends."""
        return len(self._ended) == texts

    def __call__(self, response: service_pb2.ModelInferResponse) -> TextAnswer | None:
        """Read one response; None when it carries nothing new, as an empty final response does.

        Raises:
            ServerError: the tensors do not fit each other, or a text was aborted.
        """
        outputs = outputs_of(response)
        texts = outputs.get("text_output")
        if not texts:
            return None
        reasons = outputs.get("finish_reason", [b"None"] * len(texts))
        counts = outputs.get("num_output_tokens", [])
        logprobs = outputs.get("logprobs", [b"[]"] * len(texts))
        if not len(texts) == len(reasons) == len(counts) == len(logprobs):
            raise ServerError(f"the server answered with {len(texts)} texts and other numbers of their properties")
        self._num_input_tokens = first_of(outputs, "num_input_tokens") or self._num_input_tokens
        news = []
        for index, (text, reason, count) in enumerate(zip(texts, reasons, counts, strict=True)):
            if index in self._ended:
                continue
            finish_reason = _finish_reason(reason)
            if finish_reason:
                self._ended.add(index)
            if text or count or finish_reason:
                # A character split over two responses must not end the stream.
                words = text.decode(errors="replace")
                news.append(TextPiece(index, words, finish_reason, count, read_logprobs(logprobs[index])))
        return TextAnswer(tuple(news), self._num_input_tokens) if news else None


def joined(answers: Iterable[TextAnswer]) -> TextAnswer:
    """The whole texts, out of all answers to a request.

    Raises:
        ServerError: there is no text among them.
    """
    whole: dict[int, TextPiece] = {}
    num_input_tokens = 0
    for answer in answers:
        num_input_tokens = answer.num_input_tokens
        for piece in answer.pieces:
            before = whole.get(piece.index)
            whole[piece.index] = piece if before is None else _append(before, piece)
    if not whole:
        raise ServerError("the server answered without text")
    return TextAnswer(tuple(whole[index] for index in sorted(whole)), num_input_tokens)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image with its seed."""

    data: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class ImageStep:
    """A denoising step that was done."""

    step: int
    total_steps: int
    previews: tuple[bytes, ...]
    """JPEG files, small; empty at most steps."""


ImageEvent: TypeAlias = ImageStep | tuple[ImageFile, ...]
"""A step, or the images at the end."""


def read_images(response: service_pb2.ModelInferResponse) -> tuple[ImageFile, ...]:
    """The images of a response; none of one that tells of a step.

    Raises:
        ServerError: an image has no seed.
    """
    return _images_in(outputs_of(response))


def read_image_event(response: service_pb2.ModelInferResponse) -> ImageEvent | None:
    """One response of an image stream: a step, the images, or None when it carries nothing.

    Raises:
        ServerError: an image has no seed.
    """
    outputs = outputs_of(response)
    if images := _images_in(outputs):
        return images
    step = first_of(outputs, "step")
    if step is None:
        return None
    return ImageStep(step, first_of(outputs, "total_steps") or 0, tuple(outputs.get("preview", ())))


def _images_in(outputs: Mapping[str, list[Any]]) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(file, seed) for file, seed in files_with_seeds(outputs))


def base64_text(data: bytes) -> str:
    """A file in base64. In pieces, between which other threads can run."""
    return "".join(base64.b64encode(data[at : at + _PIECE]).decode() for at in range(0, len(data), _PIECE))


def read_logprobs(data: bytes) -> tuple[TokenLogprob, ...]:
    """Read an element of `logprobs`: a JSON list of `{token id: {logprob, rank, decoded_token}}`, in which the chosen
    token comes first.

    Raises:
        ServerError: it is something else.
    """
    if data == b"[]":
        return ()
    try:
        return tuple(_token_logprob(list(candidates.values())) for candidates in json.loads(data) or [])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ServerError(f"logprobs: cannot be read: {error!r}") from error


def _token_logprob(candidates: Sequence[Mapping[str, Any]]) -> TokenLogprob:
    # JSON has no infinity; vLLM's own server writes this number in its place.
    values = [(item["decoded_token"] or "", max(item["logprob"], -9999.0), item["rank"]) for item in candidates]
    token, logprob, _ = values[0]
    likeliest = sorted(values, key=lambda value: value[2])
    return TokenLogprob(token, logprob, tuple((text, value) for text, value, _ in likeliest))


def _finish_reason(reason: bytes) -> FinishReason | None:
    found = _FINISH_REASONS.get(reason)
    if found is None and reason not in (b"None", b""):
        raise ServerError(f"the server ended a text before it was complete: {reason.decode(errors='replace')}")
    return found


def _append(before: TextPiece, piece: TextPiece) -> TextPiece:
    return TextPiece(
        index=piece.index,
        text=before.text + piece.text,
        finish_reason=piece.finish_reason or before.finish_reason,
        num_output_tokens=before.num_output_tokens + piece.num_output_tokens,
        logprobs=before.logprobs + piece.logprobs,
    )
