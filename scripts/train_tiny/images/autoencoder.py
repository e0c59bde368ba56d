"""The first stage: an autoencoder that shrinks pictures eightfold a side."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.functional import l1_loss

from train_tiny.images import models
from train_tiny.images.dataset import render_scenes
from train_tiny.images.stage import Examples, Losses, Plan, Progress, train

_KL_WEIGHT = 2e-3  # a latent, against 1 for a pixel's absolute error
_EDGE_WEIGHT = 0.5
_SIZES = {(256, 256): 0.75, (512, 512): 0.25}  # the larger are cut to the smaller


class _Reconstruction(nn.Module):
    """Pictures through latents, with the latents' Kullback-Leibler divergence from the normal distribution."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.vae.encode(pixels).latent_dist
        return self.vae.decode(posterior.sample()).sample, posterior.kl().mean() / posterior.mean[0].numel()


def train_autoencoder(
    plan: Plan, *, scenes: int, batch: int, seed: int, workers: int, device: torch.device, work: Path
) -> tuple[AutoencoderKL, Progress]:
    """Trains an autoencoder whose latents have mean 0 and deviation 1 once its configuration is applied.

    Args:
        plan: How long and how fast.
        scenes: How many to learn from; 196 KB of the device's memory each.
        batch: Pictures a step.
        seed: Of weights, scenes and order.
        workers: Processes that render.
        device: Where to train.
        work: For checkpoints.
    """
    torch.manual_seed(seed)
    module = _Reconstruction(models.build_autoencoder()).to(device, memory_format=torch.channels_last)
    pictures = _pictures(scenes, seed, workers).to(device)

    def examples(step: int) -> Examples:
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        return (pictures[torch.randint(len(pictures), (batch,), generator=generator, device=device)],)

    progress = train("autoencoder", module, examples, _losses, plan, work)
    _standardise(module.vae, pictures[:512])
    return module.vae, progress


def _losses(prepared: nn.Module, examples: Examples) -> Losses:
    pixels = to_signed(examples[0])
    reconstruction, kl = prepared(pixels)
    error, edges = l1_loss(reconstruction, pixels), _edge_loss(reconstruction, pixels)
    return {"loss": error + _EDGE_WEIGHT * edges + _KL_WEIGHT * kl, "error": error, "edges": edges, "kl": kl}


def to_signed(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [n, height, width, 3] as float32 [n, 3, height, width] from -1 to 1."""
    return (pixels.movedim(-1, 1).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _pictures(scenes: int, seed: int, workers: int) -> torch.Tensor:
    """uint8 [n, 256, 256, 3]: small scenes whole, and pieces of large ones."""
    generator = torch.Generator().manual_seed(seed)
    side, found = models.HOME_SIDE, []
    for size, share in _SIZES.items():
        for chunk in render_scenes(round(scenes * share), seed + 1, workers, only=size):
            pixels = torch.from_numpy(chunk.pixels)
            top, left = (int(torch.randint(room - side + 1, (), generator=generator)) for room in pixels.shape[1:3])
            found.append(pixels[:, top : top + side, left : left + side])
    return torch.cat(found)


def _edge_loss(reconstruction: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The error of the differences between neighbours: edges are to be sharp, areas flat."""
    error = reconstruction - pixels
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


@torch.inference_mode()
def _standardise(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Writes the mean and the deviation of each latent channel into the configuration."""
    latents = torch.cat([vae.encode(to_signed(part)).latent_dist.mean for part in pictures.split(32)])
    deviations, means = torch.std_mean(latents.double(), dim=(0, 2, 3))
    vae.register_to_config(latents_mean=means.tolist(), latents_std=deviations.tolist(), scaling_factor=1.0)


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Standardised latents [n, 4, height / 8, width / 8] of pictures uint8 [n, height, width, 3]."""
    latents = vae.encode(to_signed(pixels)).latent_dist.mean.float()
    mean, deviation = (
        torch.tensor(value, device=latents.device).view(1, -1, 1, 1)
        for value in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / deviation
