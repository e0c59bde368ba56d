"""Finds the models that the settings name, and the tiny ones when they name none."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fictures.checkpoints import explanations
from fictures.checkpoints.configured import Source, adapter, find_folder
from fictures.errors import ConfigurationError, FicturesError, ServerUnreachable
from fictures.settings import Settings
from launcher.errors import LaunchError
from launcher.layout import ROOT

if TYPE_CHECKING:
    from fictures.checkpoints.pull import Found

TINY_KV_CACHE = 256 << 20  # bytes, some 130,000 tokens of the tiny model: touching a whole GiB takes seconds
TINY_GEMMA = ROOT / "models" / "tiny-gemma"
TINY_SDXL = ROOT / "models" / "tiny-sdxl"
TINY_SIDE = 256  # pixels, what the tiny Stable Diffusion XL was trained for
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""


@dataclass(frozen=True)
class ImageModel:
    """What diffusers is to load: a folder, a name on the Hugging Face hub, or one file."""

    name: str
    is_local: bool
    """Whether nothing of it comes from the hub."""
    side: int | None = None
    """Width and height in pixels of an image whose request names none; None: the engine's own."""


@dataclass(frozen=True)
class TextModel:
    """What vLLM is to load: a folder or a name on the Hugging Face hub."""

    name: str
    dtype: str
    is_local: bool
    kv_cache_bytes: int | None = None
    """The size of the key-value cache; None: what the settings say."""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter of the text model, on this machine."""

    folder: str
    rank: int


def find_text_model(settings: Settings) -> TextModel:
    """The text model of the settings, or the tiny one that comes with the project.

    Raises:
        LaunchError: The settings name a folder that is none, or something that is neither folder nor name.
    """
    name = settings.text_model_name
    if name is None:
        # What a CPU computes fastest, and without the near-ties that half precision would decide by chance.
        dtype = "float32" if settings.text_dtype == "auto" else settings.text_dtype
        kv_cache = None if "vllm_cpu_kvcache_space" in settings.model_fields_set else TINY_KV_CACHE
        return TextModel(str(TINY_GEMMA), dtype, is_local=True, kv_cache_bytes=kv_cache)
    place = _find("TEXT_MODEL_NAME", name, "config.json", settings.text_revision)
    return TextModel(place.name, settings.text_dtype, is_local=place.is_local)


def find_image_model(settings: Settings) -> ImageModel:
    """The image model of the settings, or the tiny one that comes with the project.

    Raises:
        LaunchError: The settings name a folder that is none, or something that is neither folder, file nor name.
    """
    name = settings.image_model_name
    if name is None:
        return ImageModel(str(TINY_SDXL), is_local=True, side=TINY_SIDE)
    file = Path(name).expanduser()
    if file.suffix == ".safetensors" and not file.is_file():
        raise LaunchError(f"IMAGE_MODEL_NAME={name}: no such file")
    if file.suffix == ".safetensors":
        return ImageModel(str(file.resolve()), is_local=False)  # its tokenizers come from the hub
    return _find("IMAGE_MODEL_NAME", name, "model_index.json", settings.image_revision)


def find_lora_modules(settings: Settings) -> dict[str, LoraAdapter]:
    """The LoRA adapters of the settings, by name. Those of the hub are fetched: vLLM would also take pickles.

    Raises:
        LaunchError: One is a folder without an adapter, cannot be fetched, or has a rank that vLLM does not take.
    """
    if not settings.text_lora_modules or "text" not in settings.serve:
        return {}
    from fictures.checkpoints import hub, layouts  # half a second, and rarely needed

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    adapters = {}
    for name, place in settings.text_lora_modules.items():
        try:
            found = _fetched(adapter(name, place), token)
        except FicturesError as error:
            raise LaunchError(str(error)) from None
        rank = layouts.adapter_rank(hub.read_object(found.folder / "adapter_config.json"))
        if rank > LORA_RANKS[-1]:
            raise LaunchError(
                f"TEXT_LORA_MODULES: {name}={place}: its rank is {rank}, vLLM takes {LORA_RANKS[-1]} at most"
            )
        adapters[name] = LoraAdapter(str(found.folder), rank)
    return adapters


def _fetched(source: Source, token: str | None) -> "Found":
    """An adapter, as the hub has it now; as the cache has it where the hub cannot be reached."""
    from fictures.checkpoints import hub, pull

    if hub.is_offline():
        return pull.find(source, token, offline=True)
    try:
        found = pull.find(source, token)
        pull.fetch(found, token)
        return found
    except ServerUnreachable as unreachable:
        try:
            return pull.find(source, token, offline=True)
        except FicturesError:
            raise unreachable from None


def _find(variable: str, name: str, config: str, revision: str | None) -> ImageModel:
    """A folder that has the file `config`, or a name on the hub."""
    try:
        folder = find_folder(variable, name, config)
    except ConfigurationError as error:
        raise LaunchError(str(error)) from None
    if folder is not None:
        return ImageModel(str(folder), is_local=True)
    _require_cached_when_offline(variable, name, config, revision)
    return ImageModel(name, is_local=False)


def _require_cached_when_offline(variable: str, name: str, config: str, revision: str | None) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return
    from huggingface_hub import try_to_load_from_cache  # half a second, and rarely needed

    if not isinstance(try_to_load_from_cache(name, config, revision=revision), str):
        raise LaunchError(explanations.NOT_CACHED.format(setting=variable, model=name))
