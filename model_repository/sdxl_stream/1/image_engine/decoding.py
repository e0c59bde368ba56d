"""From latents to pictures: the VAE's decoder, and a cheap preview without it."""

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from image_engine.compiling import CompiledDecoding

_PATCHES = 8  # a side, of one colour each, in the latents that the preview's projection is fitted to
_PATCH = 4  # latents a side
_SEED = 0


class Decoder:
    """Decodes latents as `StableDiffusionXLPipeline.__call__` does at its end (diffusers 0.42)."""

    def __init__(self, pipeline: StableDiffusionXLPipeline) -> None:
        self._vae = pipeline.vae
        self._processor = pipeline.image_processor
        self._device = pipeline._execution_device
        self._factor = pipeline.vae_scale_factor
        if self._vae.dtype == torch.float16 and self._vae.config.force_upcast:
            self._vae.to(torch.float32)  # Stable Diffusion XL's VAE overflows in half precision; once, for good
        self._called: Any = self._vae.decode
        self._to_rgb = self._fit_projection()

    def compile(self, latent_size: tuple[int, int]) -> None:
        """Has the decoder compiled for latents of one size (height, width), with the next of them."""
        self._called = CompiledDecoding(self._vae.decode, latent_size)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> list[Image.Image]:
        """Pictures of latents [n, 4, height / 8, width / 8]."""
        pixels = self._processor.postprocess(self._decode(latents), output_type="pt").float()
        # Rounded before they leave the device: diffusers has four bytes of each number cross, and NumPy read them.
        rounded = pixels.mul_(255).round_().byte().movedim(1, -1).contiguous().cpu().numpy()
        return [Image.fromarray(picture) for picture in rounded]

    @torch.inference_mode()
    def preview(self, latents: torch.Tensor) -> Image.Image:
        """A picture of latents [1, 4, height, width] in their own size, an eighth of the image's."""
        rgb = _with_constant(latents.float()) @ self._to_rgb
        return Image.fromarray((rgb.clamp(0, 1) * 255).byte()[0].cpu().numpy())

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        config = self._vae.config
        latents = latents.to(next(iter(self._vae.post_quant_conv.parameters())).dtype)
        if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
            mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1).to(latents.device, latents.dtype)
            deviation = torch.tensor(config.latents_std).view(1, -1, 1, 1).to(latents.device, latents.dtype)
            latents = latents * deviation / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor
        return self._called(latents, return_dict=False)[0]

    @torch.inference_mode()
    def _fit_projection(self) -> torch.Tensor:
        """The linear map [channels + 1, 3] from a latent and 1 to red, green and blue that comes nearest to this VAE:
        least squares over a picture of random patches.
        """
        channels = self._vae.config.latent_channels
        generator = torch.Generator().manual_seed(_SEED)
        patches = torch.randn((1, channels, _PATCHES, _PATCHES), generator=generator)
        latents = interpolate(patches, scale_factor=_PATCH).to(self._device)
        decoded = self._decode(latents).float() / 2 + 0.5
        colours = avg_pool2d(decoded, self._factor).movedim(1, -1).reshape(-1, 3)
        return torch.linalg.lstsq(_with_constant(latents).reshape(len(colours), -1), colours).solution


def _with_constant(latents: torch.Tensor) -> torch.Tensor:
    """Latents [n, channels, height, width] as [n, height, width, channels + 1], the last always 1."""
    last = latents.movedim(1, -1)
    return torch.cat([last, torch.ones_like(last[..., :1])], dim=-1)
