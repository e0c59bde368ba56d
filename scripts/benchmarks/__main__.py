"""Entry point of scripts/benchmark: one command for text and one for images."""

import typer

from benchmarks.images.command import images
from benchmarks.text.command import text

app = typer.Typer(add_completion=False, help="Measure this server beside what people use otherwise, in one run.")
app.command()(text)
app.command()(images)

if __name__ == "__main__":
    app(prog_name="benchmark")
