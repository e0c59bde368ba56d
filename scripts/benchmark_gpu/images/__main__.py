"""Entry point of `python -m benchmark_gpu.images`."""

import typer

from benchmark_gpu.images.command import images

app = typer.Typer(add_completion=False)
app.command()(images)

if __name__ == "__main__":
    app(prog_name="benchmark_gpu.images")
