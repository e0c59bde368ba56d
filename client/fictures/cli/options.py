"""The options that several commands share, and the client that they describe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fictures.errors import InvalidRequest

if TYPE_CHECKING:
    from fictures.client import Client
    from fictures.types import Sampling

Url = Annotated[
    str | None,
    typer.Option(
        help="host:port of Triton's gRPC endpoint.", show_default="TRITON_URL, else 127.0.0.1:TRITON_GRPC_PORT"
    ),
]
ApiKey = Annotated[
    str | None, typer.Option(help="Key to send with the request.", envvar="FICTURES_API_KEY", show_envvar=True)
]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the answer, or for its next piece when streaming.")]
Model = Annotated[str, typer.Option(help="Model to ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Print the text when it is complete, not as it comes.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Most tokens to generate.")]
Temperature = Annotated[
    float | None, typer.Option(help="0 always takes the likeliest token.", show_default="the model's")
]
TopP = Annotated[
    float | None,
    typer.Option(help="Choose among the likeliest tokens of this probability together.", show_default="the model's"),
]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; may be given again.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same text.")]
Param = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="Any other sampling parameter of vLLM, for example top_k=40; may be given again."
    ),
]
Lora = Annotated[str | None, typer.Option(help="LoRA adapter of the server to use.")]


def connect(
    url: str | None, api_key: str | None, timeout: float, model: str = "gemma", image_model: str = "sdxl"
) -> Client:
    """Make the client; without `url`, the environment and `./.env` say where the server is."""
    from fictures.client import Client

    return Client(address(url), model=model, image_model=image_model, timeout=timeout, api_key=api_key)


def address(url: str | None) -> str:
    """host:port of Triton's gRPC endpoint."""
    from fictures.settings import find_server

    return url or find_server(Path(".env"))


def sampling(
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    stop: list[str] | None,
    seed: int | None,
    param: list[str] | None,
) -> Sampling:
    """Put the sampling options together; those not given are left to the server."""
    given = {"temperature": temperature, "top_p": top_p, "stop": stop or None, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    return cast("Sampling", {"max_tokens": max_tokens, **chosen, **_parameters(param or [])})


def text_or_stdin(text: str) -> str:
    """Return `text`, or standard input where it is `-`."""
    return sys.stdin.read() if text == "-" else text


def _parameters(assignments: list[str]) -> dict[str, Any]:
    parameters = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals):
            raise InvalidRequest(f"--param {assignment}: must be NAME=VALUE")
        parameters[name] = _json_or_text(value)
    return parameters


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
