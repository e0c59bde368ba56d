"""`python -m benchmark_gpu.text`: which Gemma, and whatever `./scripts/benchmark text` can be told besides."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmark_gpu.text.sizes import Size, make_folder
from benchmarks.text import command as benchmark

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What a command needs that passes on the options that it does not know."""

_STREAMS = "1,32,256"
_SHARE = 0.8  # of the GPU's memory for all engines together, which leaves room for their graphs
_ONE_MORE = ("--engine", "--one-process", "--stream-interval", "--backend")
"""Options with each of which one more engine lives beside the server's own and that of `vllm serve`."""


def text(
    context: typer.Context,
    size: Annotated[Size, typer.Option(help="Which Gemma; its weights are random.")] = Size.gemma_2b,
) -> None:
    """Measure Triton and the gateway beside `vllm serve` with Gemma at its real size, which needs a GPU.

    All options of `./scripts/benchmark text` can follow; its streams are 1, 32 and 256 here. The server's settings
    are taken from the environment, except for the model.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as parent:
        os.environ |= {"TEXT_MODEL_NAME": str(make_folder(size, Path(parent))), "TEXT_LOAD_FORMAT": "dummy"}
        os.environ.setdefault("TEXT_GPU_MEMORY_UTILIZATION", f"{share_of_memory(context.args):.2f}")
        app = typer.Typer(add_completion=False)
        app.command()(benchmark.text)
        app(["--streams", _STREAMS, *context.args], prog_name="benchmark_gpu.text")


def share_of_memory(arguments: Sequence[str]) -> float:
    """Of the GPU's memory, for each of the engines that live at the same time with these options."""
    return _SHARE / (2 + sum(argument.partition("=")[0] in _ONE_MORE for argument in arguments))
