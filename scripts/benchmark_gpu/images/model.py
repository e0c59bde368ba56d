"""A Stable Diffusion XL on a device: made with random weights, or read from a folder."""

import sys
from pathlib import Path

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
    """The pipeline, made where it is used, or read from a folder.

    Raises:
        BenchmarkError: There is no such size, nor a folder of that name with a model.
    """
    if size in SIZES:
        with torch.device(device):
            pipeline = build_pipeline(_SENTENCES, seed=0, size=SIZES[size])
    elif (Path(size) / "model_index.json").is_file():
        pipeline = StableDiffusionXLPipeline.from_pretrained(size, torch_dtype=dtype)
    else:
        raise BenchmarkError(f"--size {size}: must be one of {', '.join(SIZES)}, or a folder with a model")
    pipeline.to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
