"""`fictures health`: whether the server can answer now, as `client.health` finds out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fictures.cli import answer, options
from fictures.cli.outcome import UNAVAILABLE, reported


@reported
def health(
    as_json: options.AsJson = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: options.Timeout = 10.0,
    model: Annotated[str, typer.Option(help="Text model whose engine is asked.")] = "gemma",
    image_model: Annotated[str, typer.Option(help="Image model whose engine is asked.")] = "sdxl",
) -> None:
    """Say whether the server and its models can answer now; exit code 3 if not."""
    with options.connect(url, api_key, timeout, model, image_model) as client:
        found = client.health()
    if as_json:
        answer.print_json(asdict(found))
    else:
        for name, state in found.models.items():
            typer.echo(f"{name}: {state}")
        typer.echo("healthy" if found.ok else f"unhealthy: {found.reason}")
    if not found.ok:
        raise typer.Exit(UNAVAILABLE)
