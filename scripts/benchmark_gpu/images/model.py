"""A Stable Diffusion XL with random weights on a device, and the engine's parts around it."""

import sys

import torch
from diffusers import StableDiffusionXLPipeline

from benchmarks.errors import BenchmarkError
from launcher.layout import ROOT
from tiny_models.sdxl_pipeline import BASE, TINY, build_pipeline

sys.path.append(str(ROOT / "model_repository/sdxl_stream/1"))  # where Triton finds the engine

SIZES = {"base": BASE, "tiny": TINY}
_SENTENCES = ["a lighthouse at night", "a quiet harbour in the morning", "an old map of the sea"]
PROMPT = "a lighthouse at night"


def make_pipeline(size: str, device: torch.device, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The pipeline, made where it is used.

    Raises:
        BenchmarkError: There is no such size.
    """
    if size not in SIZES:
        raise BenchmarkError(f"--size {size}: must be one of {', '.join(SIZES)}")
    with torch.device(device):
        pipeline = build_pipeline(_SENTENCES, seed=0, size=SIZES[size])
    pipeline.to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
