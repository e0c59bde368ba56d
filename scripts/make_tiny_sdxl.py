#!/usr/bin/env python
"""Makes a tiny Stable Diffusion XL: a diffusers model folder with the real architecture and random weights, in seconds.

It draws noise, but takes the same path as the real model: two text encoders, a UNet that is told size and pooled text,
a VAE that shrinks eightfold, and files in diffusers' layout.
"""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

_SENTENCES = 2000  # enough for the tokenizer's thousand words


def make_model(output: Path, seed: int = 0) -> None:
    """Writes the model to `output`, whole or not at all.

    Raises:
        FileExistsError: `output` holds something that is not a model.
    """
    if output.exists() and any(output.iterdir()) and not (output / "model_index.json").exists():
        raise FileExistsError(f"{output} holds files but no model: choose another folder or empty it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
        folder = Path(work) / "new"
        folder.mkdir(mode=0o755)
        _write(folder, seed)
        if output.exists():
            output.rename(Path(work) / "old")
        folder.rename(output)


def _write(folder: Path, seed: int) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tiny_models.corpus import sentences
    from tiny_models.sdxl_pipeline import build_pipeline

    build_pipeline(sentences(_SENTENCES), seed).save_pretrained(folder, safe_serialization=True)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes its files private to their owner


def main(
    output: Annotated[Path, typer.Option(help="The model folder to write; a model that is there is replaced.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
) -> None:
    """Make a tiny Stable Diffusion XL model with random weights."""
    try:
        make_model(output, seed)
    except FileExistsError as error:
        raise SystemExit(str(error)) from error
    typer.echo(f"{output}: tiny Stable Diffusion XL, seed {seed}")


if __name__ == "__main__":
    typer.run(main)
