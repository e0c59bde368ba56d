"""`fictures keys`: the API keys of the gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fictures.cli.outcome import reported
from fictures.errors import ConfigurationError

app = typer.Typer(help="Make, list and revoke API keys of the gateway, which reads them anew within a second.")

File = Annotated[
    Path | None, typer.Option("--file", help="The file of the keys, if not API_KEYS_FILE.", show_default=False)
]


@app.command()
@reported
def create(
    name: Annotated[str, typer.Argument(help="Whose key: letters, digits and _ . @ -")],
    max_concurrent: Annotated[int | None, typer.Option(help="Most requests at a time.", min=1)] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests within a minute.", min=1)] = None,
    file: File = None,
) -> None:
    """Make a key and print it. It is shown this once: the file holds its hash."""
    from fictures.gateway import keys

    limits = {"max_concurrent": max_concurrent, "requests_per_minute": requests_per_minute}
    typer.echo(keys.create(_path(file), name, **limits))


@app.command("list")
@reported
def list_keys(file: File = None) -> None:
    """List the keys: name, day of creation and limits of its own."""
    from fictures.gateway import keys

    for key in keys.read(_path(file)):
        limits = [
            *([f"{key.max_concurrent} at a time"] if key.max_concurrent else []),
            *([f"{key.requests_per_minute} a minute"] if key.requests_per_minute else []),
        ]
        typer.echo("  ".join([key.name, f"{key.created:%Y-%m-%d}", ", ".join(limits)]).rstrip())


@app.command()
@reported
def revoke(name: Annotated[str, typer.Argument(help="Whose key.")], file: File = None) -> None:
    """Take a key back."""
    from fictures.gateway import keys

    keys.revoke(_path(file), name)


def _path(file: Path | None) -> Path:
    if file is not None:
        return file
    if os.environ.get("API_KEYS_FILE"):
        return Path(os.environ["API_KEYS_FILE"])
    from fictures.settings import load_settings

    path = load_settings(Path(".env")).api_keys_file
    if path is None:
        raise ConfigurationError(["API_KEYS_FILE is not set: set it, or give --file"])
    return path
