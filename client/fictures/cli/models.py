"""`fictures models`: what the server has, as `client.models` lists it; `pull` fetches what the settings name."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fictures.cli import answer, options
from fictures.cli.outcome import reported

if TYPE_CHECKING:
    from fictures.checkpoints.pull import Found
    from fictures.types import ModelInfo

IMAGE_ENGINE = Path("model_repository/sdxl_stream/1/model.json")
TINY = {"text": ("TEXT_MODEL_NAME", "text_model_name"), "images": ("IMAGE_MODEL_NAME", "image_model_name")}

app = typer.Typer(help="List the server's models, or fetch and check those that the settings name.")


class Device(StrEnum):
    """What the server computes on."""

    gpu = "gpu"
    cpu = "cpu"


@app.callback(invoke_without_command=True)
@reported
def models(
    context: typer.Context,
    as_json: options.AsJson = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: options.Timeout = 60.0,
) -> None:
    """List the server's models."""
    if context.invoked_subcommand is not None:
        return
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


@app.command()
@reported
def pull(
    check: Annotated[bool, typer.Option("--check", help="Ask nobody: check what is on this machine.")] = False,
    device: Annotated[
        Device | None,
        typer.Option(
            help="What the server computes on: on a GPU it loads the image model's half-precision files.",
            show_default="gpu where this machine has an NVIDIA one",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Fetch the models that the settings name into the Hugging Face cache (HF_HOME), and check every file.

    The settings are those of docs/configuration.md, from the environment and .env. Only what the server loads is
    fetched, of weights only safetensors. Prints the lines that pin the revisions.
    """
    from fictures.checkpoints import hub, pull
    from fictures.checkpoints.configured import configured
    from fictures.settings import load_settings

    settings = load_settings(Path(".env"))
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    offline = check or hub.is_offline()
    hub.quiet()
    gpu = device is Device.gpu if device else _has_gpu()
    # All are looked up before the first is fetched: what is wrong should not come to light after hours.
    found = [pull.find(source, token, offline=offline) for source in configured(settings, IMAGE_ENGINE, gpu=gpu)]
    hub.check_space(sum(model.to_fetch for model in found))
    for model in found:
        if not as_json:
            typer.echo(_introduced(model))
        if not offline:
            pull.fetch(model, token)
        pull.check(model, token, offline=offline)
        if not as_json:
            typer.echo(f"  complete: {len(model.needed.files)} files, {_size(model.size)}, in {model.folder}")
    if as_json:
        answer.print_json([_described(model) for model in found])
        return
    for variable, field in (TINY[part] for part in settings.serve if part in TINY):
        if getattr(settings, field) is None:
            typer.echo(f"{variable} is not set: the server has a tiny model of its own")
    if pins := [pin for model in found if (pin := _pin(model))]:
        typer.echo("\n".join(["to stay with these revisions, put into .env:", *pins]))


def _has_gpu() -> bool:
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg"))


def _introduced(model: Found) -> str:
    if model.snapshot is None:
        return f"{model.source.setting}={model.source.name}: {model.needed.architecture}, on this machine"
    revision = f"{model.source.revision or 'main'} is " if model.source.revision != model.snapshot.commit else ""
    there = f"{_size(model.to_fetch)} to fetch" if model.to_fetch else "in the cache"
    return (
        f"{model.source.setting}={model.source.name}: {model.needed.architecture}, "
        f"{revision}commit {model.snapshot.commit}, {there}"
    )


def _pin(model: Found) -> str | None:
    """The line for `.env` that the revision is pinned by, unless it is."""
    variable = model.source.revision_setting
    if variable is None or model.snapshot is None or model.source.revision == model.snapshot.commit:
        return None
    return f"{variable}={model.snapshot.commit}"


def _described(model: Found) -> dict[str, Any]:
    return {
        "setting": model.source.setting,
        "name": model.source.name,
        "architecture": model.needed.architecture,
        "folder": str(model.folder),
        "commit": model.snapshot.commit if model.snapshot else None,
        "files": list(model.needed.files),
        "bytes": model.size,
        "fetched_bytes": model.to_fetch,
        "pin": _pin(model),
    }


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
