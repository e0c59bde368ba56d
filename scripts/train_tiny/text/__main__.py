"""Trains the tiny Gemma, evaluates it and writes its model card; see README.md of models/tiny-gemma.

PYTHONPATH=scripts python3 -m train_tiny.text --output models/tiny-gemma
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main(
    output: Annotated[Path, typer.Option(help="The model folder to write.")],
    checkpoints: Annotated[
        Path, typer.Option(help="Where checkpoints are kept; a training that was stopped goes on from there.")
    ] = Path(".run/train-tiny/text"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same stories and first weights.")] = 0,
    documents: Annotated[
        int, typer.Option(min=500, help="How many stories, chats and JSON answers to learn from.")
    ] = 480_000,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 4500,
    rows_per_step: Annotated[int, typer.Option(min=1, help="Rows in a step's batch.")] = 64,
    context: Annotated[int, typer.Option(min=256, help="Tokens in a row.")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 2e-3,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the model first (worth it on a GPU).")] = False,
) -> None:
    """Train a tiny Gemma that tells small stories."""
    import torch

    from train_tiny.text.evaluate import evaluate
    from train_tiny.text.report import write_card
    from train_tiny.text.train import Settings, train

    settings = Settings(seed, documents, steps, rows_per_step, context, learning_rate)
    try:
        report = train(output, checkpoints, settings, compiled=compiled)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    report["evaluation"] = evaluate(output, seed=seed, device="cuda" if torch.cuda.is_available() else "cpu")
    (output / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(output, report)
    typer.echo((output / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
