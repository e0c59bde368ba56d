"""Print an answer: whole, as JSON, or piece by piece as it comes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fictures.stream import Stream
    from fictures.types import TextChunk, TextResult


def print_json(value: Any) -> None:
    """Print one JSON value, indented for people."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_result(result: TextResult, *, as_json: bool) -> None:
    """Print a whole answer: its text, or everything that is known of it as JSON."""
    if as_json:
        print_json(asdict(result))
    else:
        typer.echo(result.text)


def print_stream(stream: Stream[TextChunk]) -> str:
    """Print each piece of an answer as it comes, then end the line. Returns the whole text."""
    pieces = []
    with stream:
        for chunk in stream:
            typer.echo(chunk.text, nl=False)
            pieces.append(chunk.text)
    typer.echo()
    return "".join(pieces)
