"""`python -m benchmark_gpu.images`: options, and where the report goes."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks import machine
from benchmarks.command import counts, deliver, require_folder, run, say
from benchmarks.report import Report


def images(
    size: Annotated[
        str, typer.Option(help="base: Stable Diffusion XL base 1.0's; tiny: for a try on a CPU; or a model's folder.")
    ] = "base",
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], typer.Option(help="Number type.")] = "float16",
    side: Annotated[int, typer.Option(min=64, max=2048, help="Width and height of an image, pixels.")] = 1024,
    steps: Annotated[int, typer.Option(min=2, max=100, help="Denoising steps of an image.")] = 30,
    at_a_time: Annotated[
        str, typer.Option("--counts", help="Images at a time, one count after the other.")
    ] = "1,2,4,8",
    repeats: Annotated[int, typer.Option(min=1, help="Times that each call of the UNet is measured.")] = 10,
    with_compile: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Also torch.compile, which takes minutes.")
    ] = True,
    only_engine: Annotated[
        bool, typer.Option("--only-engine", help="Leaves out what each optimisation does to the plain pipeline.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the report to this file, as Markdown.")] = None,
    json_output: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file, as they come.")
    ] = None,
) -> None:
    """Measure the image engine and the plain diffusers pipeline on a model of the real size."""
    require_folder("--output", output)
    require_folder("--json", json_output)
    images_at_a_time = counts("--counts", at_a_time)
    report = Report("Images on a GPU")

    def measure() -> None:
        import torch

        from benchmark_gpu.images import tables
        from benchmark_gpu.images.findings import Findings
        from benchmark_gpu.images.measurement import Effort, Measurement
        from benchmark_gpu.images.model import SIZES, make_pipeline

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        say(f"making the model on {machine.device()}")
        pipeline = make_pipeline(size, device, getattr(torch, dtype))
        effort = Effort(side, steps, images_at_a_time, repeats, with_compile, only_engine)
        weights = sum(weight.numel() for weight in pipeline.unet.parameters()) / 1e9
        random = ", random" if size in SIZES else ""
        report.machine = (
            f"Measured on {machine.device()}; size {size} ({weights:.2f} billion UNet weights{random}) in {dtype}, "
            f"torch {version('torch')}, diffusers {version('diffusers')}"
        )
        findings = Findings(json_output, report.machine)
        try:
            Measurement(pipeline, device, effort, findings, say).run()
        finally:
            tables.build(findings, report, f"{side}x{side}, {steps} steps, guidance 7.5")

    try:
        failure = run(measure)
    finally:  # also of a run that ends with an error that nobody has thought of
        if report.tables:
            deliver(report, output)
    sys.exit(failure)
