"""diffusers' `StableDiffusionXLPipeline` as it comes, loaded as the server's image model is and set to its scheduler.

`command` copies this file beside the Triton model of whole-request batching, so it imports nothing of this package.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

_PNG_COMPRESSION = 1  # as the server's: the default would cost the pipeline some milliseconds an image more


def load(engine: Path) -> "StableDiffusionXLPipeline":
    """The pipeline, with DPM++ 2M Karras.

    Args:
        engine: Folder `sdxl_stream/1` of the server's model repository. Its `model.json` names the model, its loader
            puts the same weights into the same number type, on the same device.
    """
    sys.path.append(str(engine))
    from diffusers import DPMSolverMultistepScheduler

    from image_engine.config import ModelSettings
    from image_engine.loading import find_device, load_pipeline

    settings = ModelSettings.model_validate_json((engine / "model.json").read_bytes())
    pipeline = load_pipeline(settings, find_device())
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, algorithm_type="dpmsolver++", use_karras_sigmas=True
    )
    return pipeline


def draw(
    pipeline: "StableDiffusionXLPipeline",
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    width: int,
    height: int,
    steps: int,
    guidance_scale: float,
) -> list[bytes]:
    """One call of the pipeline for all `prompts`; a PNG file of each."""
    import torch

    images = pipeline(
        list(prompts),
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    ).images
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=_PNG_COMPRESSION)
        files.append(buffer.getvalue())
    return files
