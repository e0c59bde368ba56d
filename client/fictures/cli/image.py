"""`fictures image`: make images of a prompt, as `client.stream_image` does, and write them to files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fictures import image_files
from fictures.cli import answer, options
from fictures.cli.outcome import reported
from fictures.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

    from fictures.stream import Stream
    from fictures.types import GeneratedImage, ImageChunk, ImageOptions

SERVER_DEFAULT = "the server's"


@reported
def image(
    prompt: Annotated[str, typer.Argument(help="What is to be seen; - reads it from standard input.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; several images: image-1.png, image-2.png …")
    ] = Path("image.png"),
    negative_prompt: Annotated[str | None, typer.Option(help="What is not to be seen.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.", show_default=SERVER_DEFAULT)] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.", show_default=SERVER_DEFAULT)] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", show_default=SERVER_DEFAULT)] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Weight of the prompt.", show_default=SERVER_DEFAULT)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same image.", show_default="random")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="How the noise is removed, for example euler.", show_default=SERVER_DEFAULT)
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="Kind of image file: png, jpeg or webp.", show_default="by the suffix of --output"
        ),
    ] = None,
    num_images: Annotated[int, typer.Option(min=1, help="How many images to make.")] = 1,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write image.preview.jpg beside the output while the image is made.")
    ] = False,
    preview_every: Annotated[
        int | None, typer.Option(min=1, help="Steps from preview to preview; implies --preview.", show_default="5")
    ] = None,
    as_json: options.AsJson = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each next step, and for the images.")] = 60.0,
    model: options.Model = "sdxl_stream",
) -> None:
    """Make images of a prompt and print the names of their files."""
    _check_output(output)
    given = {
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "scheduler": scheduler,
        "output_format": output_format or _format_of(output),
    }
    prompt = options.text_or_stdin(prompt)
    with options.connect(url, api_key, timeout) as client:
        stream = client.stream_image(
            prompt,
            preview_every=preview_every or (5 if preview else 0),
            num_images=num_images,
            model=model,
            **cast("ImageOptions", given),
        )
        images = _follow(stream, output)
    files = _numbered(output, len(images))
    for file, made in zip(files, images, strict=True):
        with _writing(file):
            file.write_bytes(made.data)
    if as_json:
        answer.print_json(_described(files, images))
    else:
        for file in files:
            typer.echo(file)


def _check_output(output: Path) -> None:
    """Find out what would keep the images from being written before they are made."""
    folder = output.parent
    if not os.path.isdir(folder):
        raise InvalidRequest(f"--output {output}: there is no folder {folder}")
    if os.path.isdir(output):
        raise InvalidRequest(f"--output {output}: is a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidRequest(f"--output {output}: folder {folder} cannot be written to")


def _format_of(output: Path) -> str:
    found = image_files.format_of(output)
    if found is None:
        suffixes = ", ".join(image_files.FORMATS)
        raise InvalidRequest(f"--output {output}: must end in one of {suffixes}, or --format be given")
    return found


def _follow(stream: Stream[ImageChunk], output: Path) -> tuple[GeneratedImage, ...]:
    """Show how far the images are, write their previews, and return them."""
    images: tuple[GeneratedImage, ...] = ()
    with stream, _progress() as show:
        for chunk in stream:
            show(chunk)
            for file, picture in zip(_numbered(output, len(chunk.previews)), chunk.previews, strict=True):
                _write_preview(file.with_suffix(".preview.jpg"), picture)
            images = chunk.images
    return images


@contextmanager
def _progress() -> Iterator[Callable[[ImageChunk], None]]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("step"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        yield lambda chunk: progress.update(task, completed=chunk.step, total=chunk.total_steps)


def _numbered(output: Path, count: int) -> list[Path]:
    """The file of each image: `output`, or with several `name-1.png`, `name-2.png` …"""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{number}") for number in range(1, count + 1)]


def _write_preview(file: Path, picture: Image.Image) -> None:
    """Replace the preview before at once, so that a viewer never reads half a file."""
    part = file.with_name(f"{file.name}.part")
    with _writing(file):
        picture.save(part, "JPEG", quality=90)
        part.replace(file)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidRequest(f"--output: {file} cannot be written: {error.strerror or error}") from error


def _described(files: list[Path], images: tuple[GeneratedImage, ...]) -> dict[str, Any]:
    """What was made: with `parameters` and one of `seeds` that image can be made again."""
    parameters = {name: value for name, value in images[0].parameters.items() if name != "seed"}
    return {"files": [str(file) for file in files], "seeds": [made.seed for made in images], "parameters": parameters}
