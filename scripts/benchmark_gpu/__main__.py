"""Entry point of `python -m benchmark_gpu`: what a GPU takes for images of Stable Diffusion XL's real size."""

import typer

from benchmark_gpu.images.command import images

app = typer.Typer(add_completion=False, help="Measure models of their real sizes, with random weights, on a GPU.")
app.command()(images)


@app.callback()
def main() -> None:
    """So that the command keeps its name while it is the only one."""


if __name__ == "__main__":
    app(prog_name="benchmark_gpu")
