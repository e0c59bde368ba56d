"""What the settings name: each model with where it comes from and which layout it has to have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fictures.checkpoints import layouts
from fictures.errors import ConfigurationError
from fictures.settings import Settings

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FOLDER_STARTS = ("/", "./", "../", "~")
SDXL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"
"""Where diffusers takes the configuration of a Stable Diffusion XL in one file from."""


@dataclass(frozen=True)
class Source:
    """A model, or a part of one, that the server is to load."""

    setting: str
    """What names it, for people: a variable, or a key of the image engine's `model.json`."""
    name: str
    """On the Hugging Face hub, or the place of `local`."""
    entry: str
    """The file without which there is no such model."""
    layout: layouts.Layout
    local: Path | None = None
    """The folder or file on this machine; None: it comes from the hub."""
    revision: str | None = None
    revision_setting: str | None = None
    """The variable that pins the revision; None: there is none."""


def find_folder(setting: str, name: str, entry: str) -> Path | None:
    """The folder that `name` is, None if it is a name on the hub.

    Raises:
        ConfigurationError: It is neither, or a folder without the file `entry`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / entry).is_file():
            raise ConfigurationError([f"{setting}={name}: the folder holds no such model (it has no {entry})"])
        return folder.resolve()
    if name.startswith(FOLDER_STARTS):
        raise ConfigurationError([f"{setting}={name}: no such folder: give a folder or a Hugging Face name"])
    if not HUB_NAME.fullmatch(name):
        raise ConfigurationError([f"{setting}={name}: neither a folder nor a Hugging Face name (owner/model)"])
    return None


def configured(settings: Settings, image_engine: Path, *, gpu: bool) -> Iterator[Source]:
    """Every model that the settings name, of those that are served. The tiny ones come from nowhere.

    Args:
        settings: Of the server.
        image_engine: The image engine's `model.json`; it need not be there.
        gpu: Whether the server has a GPU, where it may load other files.

    Raises:
        ConfigurationError: A name is neither a folder nor one of the hub, or `image_engine` is not JSON.
    """
    if "text" in settings.serve and settings.text_model_name:
        yield _source(
            "TEXT_MODEL_NAME",
            settings.text_model_name,
            "config.json",
            layouts.text_model,
            settings.text_revision,
            "TEXT_REVISION",
        )
    if "text" in settings.serve:
        for name, place in settings.text_lora_modules.items():
            yield adapter(name, place)
    if "images" in settings.serve and settings.image_model_name:
        yield from _image_sources(settings, _read_object(image_engine), gpu=gpu)


def adapter(name: str, place: str) -> Source:
    """The LoRA adapter `name` of `TEXT_LORA_MODULES`."""
    return _source(f"TEXT_LORA_MODULES: {name}", place, "adapter_config.json", layouts.adapter)


def _image_sources(settings: Settings, engine: dict[str, Any], *, gpu: bool) -> Iterator[Source]:
    name = settings.image_model_name or ""
    vae, unet = engine.get("vae"), engine.get("unet")
    if name.endswith(".safetensors"):
        file = Path(name).expanduser()
        if not file.is_file():
            raise ConfigurationError([f"IMAGE_MODEL_NAME={name}: no such file"])
        yield Source("IMAGE_MODEL_NAME", name, file.name, layouts.image_file, file.resolve())
        yield Source(
            f"the configuration for IMAGE_MODEL_NAME={name}", SDXL_BASE, "model_index.json", layouts.image_configuration
        )
    else:
        dtype = engine.get("dtype", "auto")
        full_precision = dtype == "float32" or (dtype == "auto" and not gpu)
        variant = None if full_precision else engine.get("variant")
        layout = partial(layouts.image_pipeline, variant=variant, own_vae=vae is None)
        yield _source("IMAGE_MODEL_NAME", name, "model_index.json", layout, settings.image_revision, "IMAGE_REVISION")
    if vae:
        yield _source("vae of sdxl_stream/1/model.json", vae, "config.json", layouts.vae)
    if unet:
        yield _unet("unet of sdxl_stream/1/model.json", unet)


def _unet(setting: str, place: str) -> Source:
    path = Path(place)
    if path.is_file():
        return Source(setting, place, path.name, partial(layouts.unet_weights, file=path.name), path.resolve())
    owner, name, file = [*place.split("/", 2), "", ""][:3]
    if not file.endswith(".safetensors"):
        raise ConfigurationError([f"{setting}={place}: neither a .safetensors file nor owner/name/file on the hub"])
    return Source(setting, f"{owner}/{name}", file, partial(layouts.unet_weights, file=file))


def _source(
    setting: str,
    name: str,
    entry: str,
    layout: layouts.Layout,
    revision: str | None = None,
    revision_setting: str | None = None,
) -> Source:
    return Source(setting, name, entry, layout, find_folder(setting, name, entry), revision, revision_setting)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"variant": "fp16"}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigurationError([f"{path} is not JSON: {error}"]) from None
    if not isinstance(content, dict):
        raise ConfigurationError([f"{path} must hold a JSON object"])
    return content
