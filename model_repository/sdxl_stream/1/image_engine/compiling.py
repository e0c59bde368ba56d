"""torch.compile for images of one size: fewer, larger kernels, whose results differ from the plain ones' in rounding.

Every new shape would be compiled anew, for minutes and while requests wait, so that all other sizes of image stay as
they are. How many images are in a step is a dimension that is left open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Home:
    """What is compiled for."""

    latent_size: tuple[int, int]
    """Height and width, an eighth of the image's."""
    least_rows: int
    """In a call of the UNet, from where on it is compiled; a single one is compiled apart from all others."""


class CompiledUNet:
    """A UNet that is called as before, and compiled at home."""

    def __init__(self, unet: Any, home: Home) -> None:
        self.device = unet.device
        self._unet = unet
        self._compiled = torch.compile(unet, fullgraph=True)
        self._home = home

    def __call__(self, sample: torch.Tensor, timesteps: torch.Tensor, **more: Any) -> Any:
        if sample.shape[-2:] != self._home.latent_size or len(sample) < self._home.least_rows:
            return self._unet(sample, timesteps, **more)
        if len(sample) > 1:
            for tensor in _tensors((sample, timesteps, more)):
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return self._compiled(sample, timesteps, **more)


class CompiledVAE:
    """Decodes latents as a VAE does, compiled at home: one image after the other, as that is one shape."""

    def __init__(self, vae: Any, home: Home) -> None:
        self._decode = vae.decode
        self._compiled = torch.compile(vae.decode, fullgraph=True)
        self._home = home

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures [n, 3, 8 * height, 8 * width] of latents [n, channels, height, width]."""
        if latents.shape[-2:] != self._home.latent_size:
            return self._decode(latents, return_dict=False)[0]
        return torch.cat([self._compiled(one, return_dict=False)[0] for one in latents.split(1)])


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple):
        for value in values:
            yield from _tensors(value)
