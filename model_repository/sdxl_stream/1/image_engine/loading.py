"""Loads the pipeline: from a folder, the Hugging Face hub or one file, safetensors only."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel

from image_engine.config import ModelSettings
from image_engine.errors import SetupError


def find_device() -> torch.device:
    """The GPU that Triton gave this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_pipeline(settings: ModelSettings, device: torch.device) -> StableDiffusionXLPipeline:
    """The whole pipeline on its device, ready to be taken apart.

    Raises:
        SetupError: The model is not there, is not a Stable Diffusion XL, or needs more memory than there is.
    """
    try:
        pipeline = _read(settings, _dtype(settings, device))
        _place(pipeline, settings, device)
    except SetupError:
        raise
    except torch.OutOfMemoryError:
        raise SetupError(
            f"out of GPU memory while loading {settings.model}: switch on CPU offload or use a larger GPU"
        ) from None
    except Exception as error:
        raise SetupError(f"{settings.model} could not be loaded: {_first_line(error)}") from error
    return pipeline


def _read(settings: ModelSettings, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if settings.vae:
        options["vae"] = AutoencoderKL.from_pretrained(settings.vae, **options)
    if settings.model.endswith(".safetensors"):
        pipeline = StableDiffusionXLPipeline.from_single_file(settings.model, **options)
    else:
        pipeline = _from_folder_or_hub(settings, add_watermarker=False, **options)
    if not isinstance(pipeline, StableDiffusionXLPipeline) or pipeline.tokenizer_2 is None:
        raise SetupError(f"{settings.model} is a {type(pipeline).__name__}, not a Stable Diffusion XL")
    if settings.unet:
        _replace_weights(pipeline.unet, settings.unet)
    if settings.scheduler_config:
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, **settings.scheduler_config
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _from_folder_or_hub(settings: ModelSettings, **options: Any) -> StableDiffusionXLPipeline:
    # Half-precision files would lose what full precision is asked for.
    if settings.variant and options["dtype"] != torch.float32:
        try:
            return StableDiffusionXLPipeline.from_pretrained(
                settings.model, revision=settings.revision, variant=settings.variant, **options
            )
        except (ValueError, OSError) as error:
            if "variant" not in str(error):
                raise
    return StableDiffusionXLPipeline.from_pretrained(settings.model, revision=settings.revision, **options)


def _replace_weights(unet: UNet2DConditionModel, place: str) -> None:
    from safetensors.torch import load_file

    if not Path(place).is_file():
        from huggingface_hub import hf_hub_download

        owner, name, file = [*place.split("/", 2), "", ""][:3]
        if not file:
            raise SetupError(f"unet: {place} is neither a file nor owner/name/file on the Hugging Face hub")
        place = hf_hub_download(f"{owner}/{name}", file)
    unet.load_state_dict(load_file(place))


def _place(pipeline: StableDiffusionXLPipeline, settings: ModelSettings, device: torch.device) -> None:
    if settings.enable_attention_slicing:
        pipeline.enable_attention_slicing()
    if settings.enable_vae_slicing:
        pipeline.vae.enable_slicing()
    if settings.enable_vae_tiling:
        pipeline.vae.enable_tiling()
    if settings.enable_cpu_offload and device.type == "cuda":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, settings.dtype)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
