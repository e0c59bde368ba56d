"""The second stage: UNet and both text encoders learn together to take noise from latents, told what is seen."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from train_tiny.images import models
from train_tiny.images.autoencoder import encode
from train_tiny.images.dataset import CAPTIONS_A_SCENE, SIZES, render_scenes
from train_tiny.images.stage import Examples, Losses, Plan, Progress, train

_SILENT = 0.10  # of the examples are told nothing, as zeros: how diffusers' pipeline puts an absent negative prompt
_EMPTY = 0.05  # are told the empty text: an empty negative prompt
_SNR_CEILING = 5.0  # min-SNR weighting (Hang et al. 2023)
_ENCODED = 64  # pictures at a time
_OFFSET_NOISE = 0.05  # as Stable Diffusion XL was trained, so that dark and bright scenes come from any noise


class Denoiser(nn.Module):
    """What is trained: from token ids to the noise in latents."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = models.build_text_encoders(tokenizer)
        self.unet = models.build_unet()

    @property
    def text_encoders(self) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
        """The first and the second."""
        return self.text_encoder, self.text_encoder_2

    def forward(
        self,
        token_ids: torch.Tensor,
        told: torch.Tensor,
        time_ids: torch.Tensor,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """The noise in `latents` [n, 4, height, width], told the texts [n, 77] where `told` [n] is 1, else zeros."""
        first = self.text_encoder(token_ids, output_hidden_states=True).hidden_states[-2]
        second = self.text_encoder_2(token_ids, output_hidden_states=True)
        tokens = torch.cat([first, second.hidden_states[-2]], dim=-1) * told[:, None, None]
        conditions = {"text_embeds": second.text_embeds * told[:, None], "time_ids": time_ids}
        return self.unet(latents, timesteps, encoder_hidden_states=tokens, added_cond_kwargs=conditions).sample


@dataclass(frozen=True)
class _Bucket:
    """All scenes of one size, on the training device."""

    latents: torch.Tensor
    """float16 [n, 4, height / 8, width / 8]"""
    token_ids: torch.Tensor
    """int16 [n, CAPTIONS_A_SCENE, 77]"""
    time_ids: torch.Tensor
    """float32 [n, 6]"""


def train_denoiser(
    plan: Plan,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    *,
    scenes: int,
    batch: int,
    seed: int,
    workers: int,
    work: Path,
) -> tuple[Denoiser, Progress]:
    """Trains UNet and text encoders on the autoencoder's device.

    Args:
        plan: How long and how fast.
        vae: Trained.
        tokenizer: Of both text encoders.
        scenes: How many to learn from; about 12 KB of the device's memory each.
        batch: Pictures of 256x256 a step; of larger ones so many fewer.
        seed: Of weights, scenes and noise.
        workers: Processes that render.
        work: For checkpoints.
    """
    torch.manual_seed(seed)
    device = vae.device
    module = Denoiser(tokenizer).to(device)
    module.unet.to(memory_format=torch.channels_last)
    buckets = _kept_buckets(work / "latents.pt", vae, tokenizer, scenes, seed, workers)
    sizes, shares = list(buckets), torch.tensor([SIZES[size] for size in buckets])
    nothing = torch.tensor(_token_ids(tokenizer, [""])[0], device=device)
    schedule = DDPMScheduler.from_config(models.build_scheduler().config)
    schedule.alphas_cumprod = schedule.alphas_cumprod.to(device)

    def examples(step: int) -> Examples:
        chooser = torch.Generator().manual_seed(seed * 1_000_003 + step)
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        size = sizes[int(torch.multinomial(shares, 1, generator=chooser))]
        bucket = buckets[size]
        count = max(1, batch * models.HOME_SIDE**2 // (size[0] * size[1]))
        chosen = torch.randint(len(bucket.latents), (count,), generator=generator, device=device)
        variant = torch.randint(CAPTIONS_A_SCENE, (count,), generator=generator, device=device)
        chance = torch.rand(count, generator=generator, device=device)
        token_ids = bucket.token_ids[chosen, variant].long()
        token_ids = torch.where((chance < _SILENT + _EMPTY)[:, None], nothing, token_ids)
        latents = bucket.latents[chosen].float()
        noise = _noise(latents, generator)
        timesteps = torch.randint(schedule.config.num_train_timesteps, (count,), generator=generator, device=device)
        noisy = schedule.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        return token_ids, (chance >= _SILENT).float(), bucket.time_ids[chosen], noisy, timesteps, noise

    def losses(prepared: nn.Module, examples: Examples) -> Losses:
        *conditions, timesteps, noise = examples
        errors = (prepared(*conditions, timesteps).float() - noise).square().mean((1, 2, 3))
        snr = compute_snr(schedule, timesteps)
        return {"loss": (errors * snr.clamp(max=_SNR_CEILING) / snr).mean(), "error": errors.mean()}

    progress = train("denoiser", module, examples, losses, plan, work)
    return module, progress


def _noise(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    options = {"generator": generator, "device": latents.device}
    shift = torch.randn((*latents.shape[:2], 1, 1), **options)
    return torch.randn(latents.shape, **options) + _OFFSET_NOISE * shift


def _kept_buckets(
    file: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, scenes: int, seed: int, workers: int
) -> dict[tuple[int, int], _Bucket]:
    """Those of `_buckets`, from `file` if an interrupted run left them there."""
    if file.exists():
        kept = torch.load(file, map_location=vae.device, weights_only=True)
        return {size: _Bucket(**parts) for size, parts in kept.items()}
    buckets = _buckets(vae, tokenizer, scenes, seed, workers)
    fresh = file.with_suffix(".new")
    torch.save({size: vars(bucket) for size, bucket in buckets.items()}, fresh)
    fresh.rename(file)
    return buckets


def _buckets(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, scenes: int, seed: int, workers: int
) -> dict[tuple[int, int], _Bucket]:
    parts: dict[tuple[int, int], list[_Bucket]] = defaultdict(list)
    for chunk in render_scenes(scenes, seed, workers):
        pixels = torch.from_numpy(chunk.pixels).to(vae.device)
        latents = torch.cat([encode(vae, some) for some in pixels.split(_ENCODED)]).half()
        ids = _token_ids(tokenizer, [caption for captions in chunk.captions for caption in captions])
        token_ids = torch.tensor(ids, dtype=torch.int16).view(len(latents), CAPTIONS_A_SCENE, -1).to(vae.device)
        parts[chunk.size].append(_Bucket(latents, token_ids, torch.from_numpy(chunk.time_ids).to(vae.device)))
    return {
        size: _Bucket(
            torch.cat([part.latents for part in some]),
            torch.cat([part.token_ids for part in some]),
            torch.cat([part.time_ids for part in some]),
        )
        for size, some in parts.items()
    }


def _token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> list[list[int]]:
    """As the pipeline does it: 77 ids each, filled up with the end token."""
    return tokenizer(captions, padding="max_length", max_length=models.PROMPT_TOKENS, truncation=True)["input_ids"]
