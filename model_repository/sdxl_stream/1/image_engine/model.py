"""The loaded model: the pipeline's parts, each with its part of the work, and how much fits into memory."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionXLPipeline

from image_engine.config import ModelSettings, compiled_part, is_offloaded
from image_engine.decoding import Decoder
from image_engine.denoising import Denoiser, Drawing
from image_engine.errors import SetupError
from image_engine.loading import find_device, load_pipeline
from image_engine.memory import MemoryBudget, peak_bytes, working_memory
from image_engine.parameters import default_of
from image_engine.prompts import PromptEncoder

if TYPE_CHECKING:  # it is made of Triton's tensors, without which a model can be measured
    from image_engine.request import ImageRequest

_MEASURED_SIDE = {"cpu": 256, "cuda": 1024}  # pixels of the image that memory is measured with


@dataclass(frozen=True)
class ImageModel:
    """Everything that a Stable Diffusion XL does, one call each."""

    encoder: PromptEncoder
    denoiser: Denoiser
    decoder: Decoder
    budget: MemoryBudget
    device: torch.device
    offloaded: bool
    """Whether the parts take turns on the GPU, so that only one may work at a time."""
    description: str

    @classmethod
    def load(cls, settings: ModelSettings) -> "ImageModel":
        """Loads the weights and measures a step and a decoding, which also warms the kernels up.

        Raises:
            SetupError: The model cannot be loaded.
        """
        device = find_device()
        return cls.of(load_pipeline(settings, device), settings, device)

    @classmethod
    def of(cls, pipeline: StableDiffusionXLPipeline, settings: ModelSettings, device: torch.device) -> "ImageModel":
        """Takes a pipeline that is on its device apart, and measures it as `load` does."""
        offloaded = is_offloaded(settings, device)
        graphs = settings.cuda_graphs and device.type == "cuda" and not offloaded
        encoder, decoder = PromptEncoder(pipeline), Decoder(pipeline)
        denoiser = Denoiser(pipeline, cuda_graphs=graphs)
        budget = _measure(settings, device, encoder, denoiser, decoder, steps_at_a_time=2 if graphs else 1)
        compiled = _compile(settings, device, budget, encoder, denoiser, decoder)
        side = _MEASURED_SIDE[device.type]
        return cls(
            encoder=encoder,
            denoiser=denoiser,
            decoder=decoder,
            budget=budget,
            device=device,
            offloaded=offloaded,
            description=f"{settings.model} on {device.type} in {_name(pipeline.unet.dtype)}; up to "
            f"{budget.capacity((side, side))} images of {side}x{side} in a denoising step{compiled}",
        )

    def start(self, request: "ImageRequest") -> list[Drawing]:
        """The request's images before their first step. Raises `InvalidArgument` for too many steps."""
        return [
            self.denoiser.start(
                self.encoder.encode(
                    request.prompt,
                    request.negative_prompt,
                    guided=self.denoiser.needs_negative(request.guidance_scale),
                ),
                width=request.width,
                height=request.height,
                steps=request.num_inference_steps,
                guidance_scale=request.guidance_scale,
                scheduler=request.scheduler,
                seed=seed,
            )
            for seed in request.seeds
        ]

    def denoise(self, drawings: Sequence[Drawing]) -> None:
        """One step for each, done when this returns."""
        self.denoiser.step(drawings)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # and not that of the decoding thread

    def free_memory(self) -> None:
        """Gives back what a failed call left."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _measure(
    settings: ModelSettings,
    device: torch.device,
    encoder: PromptEncoder,
    denoiser: Denoiser,
    decoder: Decoder,
    *,
    steps_at_a_time: int,
) -> MemoryBudget:
    """`steps_at_a_time`: 2 where graphs keep the memory of a step, beside which another may be made without one."""
    side = _MEASURED_SIDE[device.type]
    guided = denoiser.needs_negative(2.0)
    embeddings = encoder.encode("", None, guided=guided)
    drawing = denoiser.start(
        embeddings, width=side, height=side, steps=2, guidance_scale=2.0, scheduler="euler", seed=0
    )
    available = working_memory(settings, device)
    step = steps_at_a_time * peak_bytes(lambda: denoiser.step([drawing]), device)
    decode = peak_bytes(lambda: decoder.decode(drawing.latents), device)
    pixels = side * side
    return MemoryBudget(available, step / pixels, decode / pixels, settings.max_batch_size)


def _compile(
    settings: ModelSettings,
    device: torch.device,
    budget: MemoryBudget,
    encoder: PromptEncoder,
    denoiser: Denoiser,
    decoder: Decoder,
) -> str:
    """Compiles what the settings ask for.

    Nothing is compiled after that: what would need another compilation is drawn as if there were none.

    Returns:
        What was compiled, in words; nothing where nothing is to be.

    Raises:
        SetupError: It cannot be compiled. Left to choose (`auto`), the engine goes on without.
    """
    part = compiled_part(settings, device)
    if part == "off":
        return ""
    # On a CPU the decoder stays as it is: whether compiling it gains anything there was not measured.
    compiled_decoder = decoder if part == "model" and device.type == "cuda" else None
    began = time.monotonic()
    torch.compiler.set_stance("default")
    try:
        _compile_now(part, settings, budget, encoder, denoiser, compiled_decoder)
    except Exception as error:
        cause = getattr(error, "inner_exception", error)  # of PyTorch's own, which only says which compiler it was
        reason = str(cause).strip().partition("\n")[0] or repr(cause)
        if settings.compile != "auto":
            raise SetupError(f"compile: {settings.model} could not be compiled: {reason}") from error
        denoiser.compile_nothing()
        return f"; could not be compiled, so that steps take longer: {reason}"
    finally:
        torch.compiler.set_stance("eager_on_recompile")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    what = "transformer blocks" if part == "blocks" else "UNet and decoder" if compiled_decoder else "UNet"
    return f"; {what} compiled in {time.monotonic() - began:.0f} s"


def _compile_now(
    part: str,
    settings: ModelSettings,
    budget: MemoryBudget,
    encoder: PromptEncoder,
    denoiser: Denoiser,
    decoder: Decoder | None,
) -> None:
    """Compiles by making steps of the default size. PyTorch takes a single row for a case of its own: that one is
    compiled for if the default needs no negative prompt.
    """
    width, height, guidance_scale = (
        default_of(name, settings.defaults) for name in ("width", "height", "guidance_scale")
    )
    guided = denoiser.needs_negative(guidance_scale)
    together = budget.capacity((width, height))
    several = {1, min(2, together)}
    if part == "blocks":
        denoiser.compile_blocks()
    else:
        latent_size = (height // 8, width // 8)
        denoiser.compile(latent_size)
        if decoder:
            decoder.compile(latent_size)
        several.add(together)  # PyTorch may have other kernels for many rows, such as for 16 on a CPU
    embeddings = encoder.encode("", None, guided=guided)
    drawings = [
        denoiser.start(
            embeddings, width=width, height=height, steps=3, guidance_scale=guidance_scale, scheduler="euler", seed=0
        )
        for _ in range(max(several))
    ]
    for images in sorted(several):
        denoiser.step(drawings[:images])
    if decoder:
        decoder.decode(drawings[0].latents)


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
