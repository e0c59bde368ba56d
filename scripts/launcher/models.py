"""Finds the models that the settings name, and makes the tiny ones when they name none."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from fictures.settings import Settings
from launcher import processes
from launcher.errors import LaunchError
from launcher.layout import ROOT, RUN, shown

TINY_KV_CACHE = 256 << 20  # bytes, some 170,000 tokens of the tiny model: touching a whole GiB takes seconds
TINY_GEMMA = RUN / "models" / "tiny-gemma"
TINY_SDXL = RUN / "models" / "tiny-sdxl"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FOLDER_STARTS = ("/", "./", "../", "~")


@dataclass(frozen=True)
class ImageModel:
    """What diffusers is to load: a folder, a name on the Hugging Face hub, or one file."""

    name: str
    is_local: bool
    """Whether nothing of it comes from the hub."""


@dataclass(frozen=True)
class TextModel:
    """What vLLM is to load: a folder or a name on the Hugging Face hub."""

    name: str
    dtype: str
    is_local: bool
    kv_cache_bytes: int | None = None
    """The size of the key-value cache; None: what the settings say."""


def find_text_model(settings: Settings) -> TextModel:
    """The text model of the settings. The tiny model need not be there yet.

    Raises:
        LaunchError: The settings name a folder that is none, or something that is neither folder nor name.
    """
    name = settings.text_model_name
    if name is None:
        # Random weights in half precision have near-ties in their logits; float32 keeps greedy answers stable.
        dtype = "float32" if settings.text_dtype == "auto" else settings.text_dtype
        kv_cache = None if "vllm_cpu_kvcache_space" in settings.model_fields_set else TINY_KV_CACHE
        return TextModel(str(TINY_GEMMA), dtype, is_local=True, kv_cache_bytes=kv_cache)
    place = _find("TEXT_MODEL_NAME", name, "config.json", settings.text_revision)
    return TextModel(place.name, settings.text_dtype, is_local=place.is_local)


def find_image_model(settings: Settings) -> ImageModel:
    """The image model of the settings. The tiny model need not be there yet.

    Raises:
        LaunchError: The settings name a folder that is none, or something that is neither folder, file nor name.
    """
    name = settings.image_model_name
    if name is None:
        return ImageModel(str(TINY_SDXL), is_local=True)
    file = Path(name).expanduser()
    if file.suffix == ".safetensors" and not file.is_file():
        raise LaunchError(f"IMAGE_MODEL_NAME={name}: no such file")
    if file.suffix == ".safetensors":
        return ImageModel(str(file.resolve()), is_local=False)  # its tokenizers come from the hub
    return _find("IMAGE_MODEL_NAME", name, "model_index.json", None)


def find_lora_modules(settings: Settings) -> dict[str, str]:
    """The LoRA adapters of the settings, name to absolute folder or name on the hub.

    Raises:
        LaunchError: One is a folder without an adapter, or neither folder nor name.
    """
    found = {}
    for name, place in settings.text_lora_modules.items():
        problem = f"TEXT_LORA_MODULES: {name}={place}"
        folder = Path(place).expanduser()
        if folder.is_dir() or place.startswith(FOLDER_STARTS):
            if not (folder / "adapter_config.json").is_file():
                raise LaunchError(f"{problem}: no adapter there (no adapter_config.json): give an adapter's folder")
            place = str(folder.resolve())
        elif not HUB_NAME.fullmatch(place):
            raise LaunchError(f"{problem}: neither a folder nor a Hugging Face name (owner/adapter)")
        found[name] = place
    return found


def _find(variable: str, name: str, config: str, revision: str | None) -> ImageModel:
    """A folder that has the file `config`, or a name on the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / config).is_file():
            raise LaunchError(f"{variable}={name}: the folder holds no model (it has no {config})")
        return ImageModel(str(folder.resolve()), is_local=True)
    if name.startswith(FOLDER_STARTS):
        raise LaunchError(f"{variable}={name}: no such folder: give a folder or a Hugging Face name")
    if not HUB_NAME.fullmatch(name):
        raise LaunchError(f"{variable}={name}: neither a folder nor a Hugging Face name (owner/model)")
    _require_cached_when_offline(variable, name, config, revision)
    return ImageModel(name, is_local=False)


def _require_cached_when_offline(variable: str, name: str, config: str, revision: str | None) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return
    from huggingface_hub import try_to_load_from_cache  # half a second, and rarely needed

    if not isinstance(try_to_load_from_cache(name, config, revision=revision), str):
        raise LaunchError(
            f"{variable}={name}: not in the local Hugging Face cache, and HF_HUB_OFFLINE is set: "
            "unset it, or download the model first"
        )


def make_tiny_gemma(stop: Event) -> bool:
    """Make the tiny Gemma unless it is there; False if `stop` was set meanwhile. Raises `LaunchError`."""
    return _make(TINY_GEMMA, "config.json", "make_tiny_gemma.py", stop)


def make_tiny_sdxl(stop: Event) -> bool:
    """Make the tiny Stable Diffusion XL unless it is there; False if `stop` was set meanwhile. Raises `LaunchError`."""
    return _make(TINY_SDXL, "model_index.json", "make_tiny_sdxl.py", stop)


def _make(folder: Path, config: str, script: str, stop: Event) -> bool:
    """Make a tiny model, whole or not at all. Raises `LaunchError` if it cannot be made."""
    if (folder / config).is_file():
        return True
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "scripts" / script), "--output", str(folder)]
    log = folder.parent / f"{Path(script).stem}.log"
    process = processes.start(command, os.environ, log, ROOT)
    while process.poll() is None:
        if stop.wait(0.1):
            processes.stop(process, grace=1)
            return False
    if process.returncode and not (folder / config).is_file():  # another copy may have been faster
        raise LaunchError(f"the tiny model {folder.name} could not be made: see {shown(log)}")
    return True
