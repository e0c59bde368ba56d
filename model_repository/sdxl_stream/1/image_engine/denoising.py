"""One denoising step for many images at once: the UNet is shared, everything else is each image's own.

The steps are those of `StableDiffusionXLPipeline.__call__` (diffusers 0.42); an image alone in the batch comes out
the same, bit for bit, unless the UNet is compiled.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor

from image_engine.compiling import CompiledUNet, with_compiled_blocks
from image_engine.graphs import GraphedUNet, UNetInputs, call
from image_engine.prompts import Conditioning, PromptEmbeddings
from image_engine.schedulers import make_scheduler


@dataclass(eq=False)
class Drawing:
    """One image on its way from noise to picture; `latents` is [1, channels, height / 8, width / 8]."""

    latents: torch.Tensor
    scheduler: Any
    embeddings: PromptEmbeddings
    guidance_scale: float
    time_ids: torch.Tensor
    generator: torch.Generator
    step: int = 0
    """Steps done."""
    _step_arguments: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        accepted = inspect.signature(self.scheduler.step).parameters
        self._step_arguments = {"generator": self.generator} if "generator" in accepted else {}

    @property
    def total_steps(self) -> int:
        return len(self.scheduler.timesteps)

    @property
    def finished(self) -> bool:
        return self.step == self.total_steps

    @property
    def timestep(self) -> torch.Tensor:
        return self.scheduler.timesteps[self.step]

    @property
    def conditionings(self) -> list[Conditioning]:
        """The rows that this image has in a batch: with guidance the negative one first, as in the pipeline."""
        both = (self.embeddings.negative, self.embeddings.positive)
        return [conditioning for conditioning in both if conditioning is not None]

    def advance(self, noise: torch.Tensor) -> None:
        """Takes the UNet's prediction, a row for each of `conditionings`, and does the step."""
        if self.embeddings.negative is not None:
            negative, positive = noise.chunk(2)
            noise = negative + self.guidance_scale * (positive - negative)
        self.latents = self.scheduler.step(
            noise, self.timestep, self.latents, **self._step_arguments, return_dict=False
        )[0]
        self.step += 1


class Denoiser:
    """Starts drawings on a pipeline's UNet and moves them forward.

    Args:
        pipeline: Where the UNet comes from.
        cuda_graphs: Whether steps of a kind that comes again are made by CUDA graphs; for a UNet that stays on a GPU.
    """

    def __init__(self, pipeline: StableDiffusionXLPipeline, *, cuda_graphs: bool = False) -> None:
        self._pipeline = pipeline
        self._unet = pipeline.unet
        self._guidance_width = pipeline.unet.config.time_cond_proj_dim
        self._device = pipeline._execution_device
        self._called: Any = self._unet
        self._graphs = GraphedUNet(self._called) if cuda_graphs else None

    def compile_blocks(self) -> None:
        """Has the UNet's transformer blocks compiled, with the next step."""
        self._use(with_compiled_blocks(self._unet))

    def compile(self, latent_size: tuple[int, int]) -> None:
        """Has the UNet compiled for latents of one size (height, width), with the next step of such images."""
        self._use(CompiledUNet(self._unet, latent_size))

    def compile_nothing(self) -> None:
        """Has the UNet called as it came."""
        self._use(self._unet)

    def release_graphs(self) -> None:
        """Gives back the memory of CUDA graphs; those that are needed are recorded again."""
        if self._graphs is not None:
            self._graphs.release()

    def needs_negative(self, guidance_scale: float) -> bool:
        """Whether the unconditional half is computed: not without guidance, nor if the UNet is told the scale."""
        return guidance_scale > 1 and self._guidance_width is None

    @torch.inference_mode()
    def start(
        self,
        embeddings: PromptEmbeddings,
        *,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        scheduler: str,
        seed: int,
    ) -> Drawing:
        """A drawing before its first step. The noise comes from a CPU generator, the same on every device."""
        own_scheduler = make_scheduler(scheduler, self._pipeline.scheduler.config, steps, self._device)
        tokens, pooled = embeddings.positive.tokens, embeddings.positive.pooled
        factor = self._pipeline.vae_scale_factor
        shape = (1, self._unet.config.in_channels, height // factor, width // factor)
        generator = torch.Generator().manual_seed(seed)
        noise = randn_tensor(shape, generator=generator, device=self._device, dtype=tokens.dtype)
        projection = self._pipeline.text_encoder_2.config.projection_dim if self._pipeline.text_encoder_2 else None
        time_ids = self._pipeline._get_add_time_ids(
            (height, width), (0, 0), (height, width), tokens.dtype, projection or int(pooled.shape[-1])
        )
        return Drawing(
            latents=noise * own_scheduler.init_noise_sigma,
            scheduler=own_scheduler,
            embeddings=embeddings,
            guidance_scale=guidance_scale,
            time_ids=time_ids.to(self._device),
            generator=generator,
        )

    @torch.inference_mode()
    def step(self, drawings: Sequence[Drawing]) -> None:
        """One step for each of these drawings, which are of one size, in one call of the UNet."""
        rows: list[tuple[Drawing, Conditioning]] = []
        samples: list[torch.Tensor] = []
        for drawing in drawings:
            conditionings = drawing.conditionings
            sample = drawing.scheduler.scale_model_input(drawing.latents, drawing.timestep)
            samples += [sample] * len(conditionings)
            rows += [(drawing, conditioning) for conditioning in conditionings]
        inputs = UNetInputs(
            sample=torch.cat(samples),
            timesteps=torch.stack([drawing.timestep.float() for drawing, _ in rows]),
            tokens=torch.cat([conditioning.tokens for _, conditioning in rows]),
            pooled=torch.cat([conditioning.pooled for _, conditioning in rows]),
            time_ids=torch.cat([drawing.time_ids for drawing, _ in rows]),
            guidance=self._guidance_embeddings([drawing for drawing, _ in rows]),
        )
        noise = call(self._called, inputs) if self._graphs is None else self._graphs(inputs)
        start = 0
        for drawing in drawings:
            end = start + len(drawing.conditionings)
            drawing.advance(noise[start:end])
            start = end

    def _use(self, unet: Any) -> None:
        self._called = unet
        if self._graphs is not None:
            self._graphs = GraphedUNet(unet)

    def _guidance_embeddings(self, drawings: Sequence[Drawing]) -> torch.Tensor | None:
        """For models distilled with guidance (LCM), which take its scale as an input: [rows, width]."""
        if self._guidance_width is None:
            return None
        scales = torch.tensor([drawing.guidance_scale - 1 for drawing in drawings])
        embedding = self._pipeline.get_guidance_scale_embedding(scales, embedding_dim=self._guidance_width)
        return embedding.to(device=self._device, dtype=drawings[0].latents.dtype)
