"""What can be done to a pipeline's UNet and VAE, each on top of the last."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLPipeline


@dataclass(frozen=True)
class Variant:
    """A change to a pipeline, made in place."""

    name: str
    apply: Callable[[StableDiffusionXLPipeline], None]
    is_compiled: bool = False


def _channels_last(pipeline: StableDiffusionXLPipeline) -> None:
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)


def _fused(pipeline: StableDiffusionXLPipeline) -> None:
    pipeline.fuse_qkv_projections()


def _compiled(pipeline: StableDiffusionXLPipeline) -> None:
    pipeline.unet.compile(fullgraph=True, dynamic=False)
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, fullgraph=True, dynamic=False)


PLAIN = "as diffusers has it"
"""The name of none of them."""
VARIANTS = (
    Variant("+ channels last", _channels_last),
    Variant("+ fused projections", _fused),
    Variant("+ torch.compile", _compiled, is_compiled=True),
)
