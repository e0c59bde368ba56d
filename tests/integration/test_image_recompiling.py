"""The image engine's model with torch.compile, without Triton: what is compiled when, by PyTorch's own count."""

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from image_engine.config import ModelSettings
from image_engine.model import ImageModel
from tiny_models.sdxl_pipeline import build_pipeline


@pytest.fixture
def compiler() -> Iterator[None]:
    yield
    torch.compiler.set_stance("default")
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
def test_a_model_whose_blocks_are_compiled_compiles_nothing_while_it_draws() -> None:
    """Whatever the number of images and their size; a single row, which would be a compilation of its own, is drawn."""
    pipeline = build_pipeline(["a lighthouse at night"], seed=0)
    pipeline.set_progress_bar_config(disable=True)
    counters.clear()
    settings = ModelSettings(model="tiny", compile="blocks", defaults={"width": 256, "height": 256})
    model = ImageModel.of(pipeline, settings, torch.device("cpu"))
    assert "; transformer blocks compiled in " in model.description
    compiled = counters["stats"]["unique_graphs"]
    assert compiled > 0
    for images, width, height, guidance_scale in ((1, 256, 256, 7.5), (3, 320, 256, 7.5), (1, 256, 256, 1.0)):
        guided = model.denoiser.needs_negative(guidance_scale)
        drawings = [
            model.denoiser.start(
                model.encoder.encode("a lighthouse", None, guided=guided),
                width=width,
                height=height,
                steps=2,
                guidance_scale=guidance_scale,
                scheduler="euler",
                seed=seed,
            )
            for seed in range(images)
        ]
        model.denoise(drawings)
        assert all(drawing.latents.isfinite().all() for drawing in drawings)
    assert counters["stats"]["unique_graphs"] == compiled
