#!/usr/bin/env python
"""Makes a tiny Gemma: a Hugging Face model folder with the real architecture and random weights, in seconds.

It answers any prompt with words, emoji and accented letters that mean nothing, but takes the same path through Triton
and vLLM as the real model: the same classes, tokenizer kind, chat template and files.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Family(StrEnum):
    """The Gemma architectures there are tiny models of."""

    gemma = "gemma"
    gemma2 = "gemma2"
    gemma3 = "gemma3"


def make_model(output: Path, architecture: Family = Family.gemma, seed: int = 0, loras: Sequence[str] = ()) -> None:
    """Writes the model to `output`, whole or not at all, and its adapters to `output`/adapters/NAME.

    Raises FileExistsError when `output` holds something that is not a model.
    """
    if output.exists() and any(output.iterdir()) and not (output / "config.json").exists():
        raise FileExistsError(f"{output} holds files but no model: choose another folder or empty it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
        folder = Path(work) / "new"
        folder.mkdir()
        folder.chmod(0o755)
        _write(folder, architecture, seed, loras)
        if output.exists():
            output.rename(Path(work) / "old")
        folder.rename(output)


def _write(folder: Path, architecture: Family, seed: int, loras: Sequence[str]) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from safetensors.torch import save_file

    from tiny_models.gemma_lora import save_adapter
    from tiny_models.gemma_tokenizer import BOS, EOS, PAD, build_tokenizer, save_tokenizer, start_of_turn
    from tiny_models.gemma_weights import make_config, make_weights

    name = architecture.value
    tokenizer = build_tokenizer(name)
    save_tokenizer(tokenizer, folder, name)
    vocabulary = tokenizer.get_vocab()
    config = make_config(name, len(vocabulary))
    config.save_pretrained(folder)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    weights = make_weights(config, tokens, name, seed=seed)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    generation = {"bos_token_id": BOS, "eos_token_id": [EOS, start_of_turn(name) + 1], "pad_token_id": PAD}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    for lora in loras:
        save_adapter(weights, folder / "adapters" / lora, name=lora, seed=seed)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes its files private to their owner


def main(
    output: Annotated[Path, typer.Option(help="The model folder to write; a model that is there is replaced.")],
    architecture: Annotated[Family, typer.Option(help="Which Gemma.")] = Family.gemma,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    lora: Annotated[
        list[str] | None, typer.Option(help="Also make a LoRA adapter in OUTPUT/adapters/NAME; repeatable.")
    ] = None,
) -> None:
    """Make a tiny Gemma model with random weights."""
    try:
        make_model(output, architecture, seed, lora or [])
    except FileExistsError as error:
        raise SystemExit(str(error)) from error
    typer.echo(f"{output}: tiny {architecture.value}, seed {seed}")


if __name__ == "__main__":
    typer.run(main)
