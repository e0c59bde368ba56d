"""`fictures text`: continue a prompt, as `client.generate_text` and `client.stream_text` do."""

from __future__ import annotations

from typing import Annotated

import typer

from fictures.cli import answer, options
from fictures.cli.outcome import reported


@reported
def text(
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
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
    """Continue a prompt and print the text as it is generated."""
    sampling = options.sampling(max_tokens, temperature, top_p, stop, seed, param)
    prompt = options.text_or_stdin(prompt)
    with options.connect(url, api_key, timeout, model) as client:
        if as_json or no_stream:
            answer.print_result(client.generate_text(prompt, lora=lora, **sampling), as_json=as_json)
        else:
            answer.print_stream(client.stream_text(prompt, lora=lora, **sampling))
