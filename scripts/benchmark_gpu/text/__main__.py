"""Entry point of `python -m benchmark_gpu.text`."""

import typer

from benchmark_gpu.text.command import CONTEXT, text

app = typer.Typer(add_completion=False)
app.command(context_settings=CONTEXT)(text)

if __name__ == "__main__":
    app(prog_name="benchmark_gpu.text")
