"""`fictures chat`: one answer, or a conversation, as `client.chat` and `client.stream_chat` give them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fictures.cli import answer, options
from fictures.cli.outcome import complain, reported
from fictures.errors import FicturesError, InvalidRequest

if TYPE_CHECKING:
    from fictures.client import Client
    from fictures.types import ChatMessage, Sampling


@reported
def chat(
    message: Annotated[
        str | None,
        typer.Argument(
            help="The message to answer; - reads it from standard input; none: a conversation, line by line."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message to begin with.")] = None,
    chat_template_kwargs: Annotated[
        str | None, typer.Option(metavar="JSON", help="Variables for the model's chat template, a JSON object.")
    ] = None,
    max_tokens: options.MaxTokens = 256,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    stop: options.Stop = None,
    seed: options.Seed = None,
    param: options.Param = None,
    lora: options.Lora = None,
    no_stream: options.NoStream = False,
    as_json: options.AsJson = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: options.Timeout = 60.0,
    model: options.Model = "gemma",
) -> None:
    """Answer a message, or hold a conversation (end it with Ctrl-D; Ctrl-C cuts an answer short)."""
    sampling = options.sampling(max_tokens, temperature, top_p, stop, seed, param)
    template = _json_object(chat_template_kwargs)
    history: list[ChatMessage] = [{"role": "system", "content": system}] if system else []
    with options.connect(url, api_key, timeout, model) as client:
        if message is None:
            _converse(client, history, template, lora, sampling)
            return
        history.append({"role": "user", "content": options.text_or_stdin(message)})
        if as_json or no_stream:
            result = client.chat(history, chat_template_kwargs=template, lora=lora, **sampling)
            answer.print_result(result, as_json=as_json)
        else:
            stream = client.stream_chat(history, chat_template_kwargs=template, lora=lora, **sampling)
            answer.print_stream(stream)


def _converse(
    client: Client,
    history: list[ChatMessage],
    template: dict[str, Any] | None,
    lora: str | None,
    sampling: Sampling,
) -> None:
    for line in _lines():
        messages: list[ChatMessage] = [*history, {"role": "user", "content": line}]
        try:
            stream = client.stream_chat(messages, chat_template_kwargs=template, lora=lora, **sampling)
            text = answer.print_stream(stream)
        except FicturesError as error:
            if not sys.stdin.isatty():
                raise
            complain(error)
        except KeyboardInterrupt:
            typer.echo(" (cut short)")
        else:
            history[:] = [*messages, {"role": "assistant", "content": text}]


def _lines() -> Iterator[str]:
    """The lines a person types; from a pipe, its lines, without a prompt."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if line:
            yield line


def _json_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f"--chat-template-kwargs {text}: must be a JSON object")
    return value
