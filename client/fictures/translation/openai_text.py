"""Triton's answers to the OpenAI API's text responses; the schemas are those of OpenAI's own package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai.types import Completion, CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob, TopLogprob

from fictures.translation.answers import FinishReason, TextAnswer, TextPiece, TokenLogprob
from fictures.translation.openai_requests import ChatRequest, CompletionRequest


class Completions:
    """The answers to a `CompletionRequest`. Text k of prompt i is choice `i * n + k`."""

    def __init__(self, request: CompletionRequest, name: str, created: int) -> None:
        self._request = request
        self._head: dict[str, Any] = {
            "id": name,
            "object": "text_completion",
            "created": created,
            "model": request.model,
        }
        self._usage = Usage()
        self._told: dict[int, int] = {}  # characters of each choice so far

    def whole(self, answers: Sequence[TextAnswer]) -> Completion:
        """The body that answers the request, out of the whole answer to each prompt."""
        for number, answer in enumerate(answers):
            self._usage.count(answer, number)
        choices = [
            self._choice(number, piece, is_first=True)
            for number, answer in enumerate(answers)
            for piece in answer.pieces
        ]
        return Completion.model_validate({**self._head, "choices": choices, "usage": self._usage.total})

    def event(self, prompt: int, answer: TextAnswer) -> dict[str, Any]:
        """The event that tells of what is new for a prompt, given by its place: a `Completion`, as a plain dict since
        there may be thousands a second.
        """
        self._usage.count(answer, prompt)
        choices = [self._choice(prompt, piece, is_first=False) for piece in answer.pieces]
        return {**self._head, "choices": choices}

    def last_event(self) -> dict[str, Any] | None:
        """The event with the number of tokens, if the request asks for it."""
        if not (self._request.stream_options and self._request.stream_options.include_usage):
            return None
        return {**self._head, "choices": [], "usage": self._usage.total.model_dump(exclude_unset=True)}

    def _choice(self, prompt: int, piece: TextPiece, *, is_first: bool) -> dict[str, Any]:
        index = prompt * self._request.n + piece.index
        start = self._told.get(index)
        echoed = self._request.prompts[prompt] if self._request.echo and start is None else ""
        self._told[index] = (start or 0) + len(piece.text)
        return {
            "index": index,
            "text": echoed + piece.text,
            "finish_reason": finish_reason(piece, is_whole=is_first),
            "logprobs": None if self._request.logprobs is None else self._logprobs(piece.logprobs, start or 0),
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.token)
        most = self._request.logprobs or 0
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [dict(token.likeliest[:most]) for token in tokens],
            "text_offset": offsets,
        }


class ChatCompletions:
    """The answers to a `ChatRequest`."""

    def __init__(self, request: ChatRequest, name: str, created: int) -> None:
        self._request = request
        self._name, self._created = name, created
        self._usage = Usage()
        self._begun: set[int] = set()

    def whole(self, answer: TextAnswer) -> ChatCompletion:
        """The body that answers the request."""
        self._usage.count(answer)
        choices = [
            {
                "index": piece.index,
                "message": {"role": "assistant", "content": piece.text, "refusal": None},
                "finish_reason": finish_reason(piece, is_whole=True),
                "logprobs": self._logprobs(piece),
            }
            for piece in answer.pieces
        ]
        body = {**self._head("chat.completion"), "choices": choices, "usage": self._usage.total}
        return ChatCompletion.model_validate(body)

    def event(self, answer: TextAnswer) -> dict[str, Any]:
        """The event that tells of what is new: a `ChatCompletionChunk`, as a plain dict."""
        self._usage.count(answer)
        return {**self._head("chat.completion.chunk"), "choices": [self._delta(piece) for piece in answer.pieces]}

    def last_event(self) -> dict[str, Any] | None:
        """The event with the number of tokens, if the request asks for it."""
        if not (self._request.stream_options and self._request.stream_options.include_usage):
            return None
        usage = self._usage.total.model_dump(exclude_unset=True)
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._name, "object": kind, "created": self._created, "model": self._request.model}

    def _delta(self, piece: TextPiece) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": piece.text}
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            delta = {"role": "assistant", **delta}
        return {
            "index": piece.index,
            "delta": delta,
            "finish_reason": finish_reason(piece, is_whole=False),
            "logprobs": self._logprobs(piece),
        }

    def _logprobs(self, piece: TextPiece) -> dict[str, Any] | None:
        if not self._request.logprobs:
            return None
        most = self._request.top_logprobs or 0
        return {"content": [_chat_logprob(token, most).model_dump() for token in piece.logprobs], "refusal": None}


class Usage:
    """Counts the tokens of a request: those of each prompt once, those of each text as they come."""

    def __init__(self) -> None:
        self._prompts: dict[int, int] = {}
        self._generated = 0

    def count(self, answer: TextAnswer, prompt: int = 0) -> None:
        """Add what is new for a prompt, given by its place."""
        self._prompts[prompt] = answer.num_input_tokens
        self._generated += sum(piece.num_output_tokens for piece in answer.pieces)

    @property
    def total(self) -> CompletionUsage:
        """The numbers so far."""
        given = sum(self._prompts.values())
        return CompletionUsage(
            prompt_tokens=given, completion_tokens=self._generated, total_tokens=given + self._generated
        )


def finish_reason(piece: TextPiece, *, is_whole: bool) -> FinishReason | None:
    """OpenAI's word for why a text ended; None while it goes on."""
    return piece.finish_reason or ("stop" if is_whole else None)


def _chat_logprob(token: TokenLogprob, most: int) -> ChatCompletionTokenLogprob:
    return ChatCompletionTokenLogprob(
        token=token.token,
        bytes=list(token.token.encode()),
        logprob=token.logprob,
        top_logprobs=[
            TopLogprob(token=text, bytes=list(text.encode()), logprob=value) for text, value in token.likeliest[:most]
        ],
    )
