"""torch.compile: fewer, larger kernels, whose results differ from the plain ones' in rounding.

The UNet's transformer blocks are many and alike, so that they are compiled in seconds, once for all sizes of image. The
whole UNet gains more and takes minutes, for one size: all others stay as they are. Both leave open how many images are
in a step.
"""

from copy import deepcopy
from typing import Any

import torch
from torch.utils._pytree import tree_iter


def with_compiled_blocks(unet: Any) -> Any:
    """A UNet of the same weights whose transformer blocks are compiled; the given one stays as it is."""
    weights = (*unet.parameters(), *unet.buffers())
    compiled = deepcopy(unet, {id(weight): weight for weight in weights})
    compiled.compile_repeated_blocks(fullgraph=True, dynamic=True)
    return compiled


class CompiledUNet:
    """A UNet that is called as before, and compiled for latents of one size (height, width)."""

    def __init__(self, unet: Any, latent_size: tuple[int, int]) -> None:
        self.device = unet.device
        self._unet = unet
        self._compiled = torch.compile(unet, fullgraph=True)
        self._latent_size = latent_size

    def __call__(self, sample: torch.Tensor, timesteps: torch.Tensor, **more: Any) -> Any:
        if sample.shape[-2:] != self._latent_size:
            return self._unet(sample, timesteps, **more)
        if len(sample) > 1:
            for value in tree_iter((sample, timesteps, more)):
                if isinstance(value, torch.Tensor):
                    torch._dynamo.maybe_mark_dynamic(value, 0)
        return self._compiled(sample, timesteps, **more)


class CompiledDecoding:
    """A VAE's `decode`, called as before and compiled for latents of one size (height, width): one image after the
    other, as that is one shape.
    """

    def __init__(self, decode: Any, latent_size: tuple[int, int]) -> None:
        self._decode = decode
        self._compiled = torch.compile(decode, fullgraph=True)
        self._latent_size = latent_size

    def __call__(self, latents: torch.Tensor, **more: Any) -> Any:
        if latents.shape[-2:] != self._latent_size:
            return self._decode(latents, **more)
        return (torch.cat([self._compiled(one, **more)[0] for one in latents.split(1)]),)
