"""`fictures models`: what the server has, as `client.models` lists it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fictures.cli import answer, options
from fictures.cli.outcome import reported

if TYPE_CHECKING:
    from fictures.types import ModelInfo


@reported
def models(
    as_json: options.AsJson = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: options.Timeout = 60.0,
) -> None:
    """List the server's models."""
    with options.connect(url, api_key, timeout) as client:
        found = client.models()
    if as_json:
        answer.print_json([asdict(model) for model in found])
    else:
        _print_table(found)


def _print_table(found: list[ModelInfo]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "state", "inputs")
    for model in found:
        state = "ready" if model.ready else model.reason
        inputs = ", ".join(tensor.name for tensor in model.inputs)
        table.add_row(*map(Text, (model.name, model.version, state, inputs)))
    Console().print(table)
