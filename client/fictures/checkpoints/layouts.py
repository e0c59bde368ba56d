"""Which files of a model the server loads, by kind of model, from the names of its files and its small JSON files.

A layout is a function of both. It raises `Unsuitable` for what the server would not load, before anything
large is fetched. Weights are safetensors only: pickles can run code when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Read = Callable[[str], dict[str, Any]]
"""Reads a JSON object by its name in the model. Raises `Unsuitable` if it is none."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
INDEX = re.compile(r".*\.safetensors\.index(\.\w+)?\.json")
SDXL_WEIGHTS = ("text_encoder", "text_encoder_2", "unet", "vae")
SDXL_OTHERS = ("tokenizer", "tokenizer_2", "scheduler")
SDXL_TENSOR = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
"""By this tensor diffusers tells a Stable Diffusion XL in one file from other models."""


class Unsuitable(Exception):
    """Why the server does not load this model; the model's name is for the caller to say."""


@dataclass(frozen=True)
class Needed:
    """The files that the server loads of a model, and what the model is."""

    architecture: str
    files: tuple[str, ...]
    tensor: str | None = None
    """One that has to be among the weights; None: which are there is up to the index."""


Layout = Callable[[Collection[str], Read], Needed]


def text_model(names: Collection[str], read: Read) -> Needed:
    """A Gemma in Hugging Face's layout, quantised or not."""
    config = read("config.json")
    architecture = ", ".join(config.get("architectures") or ["none"])
    if not architecture.startswith("Gemma"):
        raise Unsuitable(f"its architecture is {architecture}; the server's text models are Gemma's")
    if not {"tokenizer.json", "tokenizer.model"} & set(names):
        raise Unsuitable("it has no tokenizer (tokenizer.json or tokenizer.model)")
    index = "model.safetensors.index.json"
    if index in names:
        weights = _shards(index, names, read)
    else:
        weights = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    if not weights:
        raise Unsuitable(_no_weights("it", names))
    others = [
        name
        for name in names
        if ("/" not in name and name.endswith((".json", ".model", ".jinja", ".txt")))
        or name.startswith("additional_chat_templates/")
    ]
    quantization = (config.get("quantization_config") or {}).get("quant_method")
    return _needed(f"{architecture}, quantised by {quantization}" if quantization else architecture, others, weights)


def adapter(names: Collection[str], read: Read) -> Needed:
    """A LoRA adapter in PEFT's format."""
    weights = "adapter_model.safetensors"
    if weights not in names:
        raise Unsuitable(_no_weights("it", names))
    return _needed(
        f"LoRA adapter of rank {adapter_rank(read('adapter_config.json'))}", ["adapter_config.json", weights]
    )


def adapter_rank(config: dict[str, Any]) -> int:
    """The `r` of an `adapter_config.json`."""
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise Unsuitable(f"adapter_config.json: r is {rank}, must be a whole number from 1")
    return rank


def image_pipeline(names: Collection[str], read: Read, *, variant: str | None, own_vae: bool) -> Needed:
    """A Stable Diffusion XL in diffusers' layout: the files that `StableDiffusionXLPipeline.from_pretrained` asks for.

    Args:
        variant: The weights to take where a folder has such.
        own_vae: Whether the model's own VAE is loaded, and not another in its place.
    """
    index = read("model_index.json")
    architecture = str(index.get("_class_name"))
    if architecture != "StableDiffusionXLPipeline":
        raise Unsuitable(f"it is a {architecture}; the server's image models are StableDiffusionXLPipeline")
    wanted = [part for part in SDXL_WEIGHTS if part != "vae" or own_vae]
    found = {folder: _weights(folder, names, read, variant) for folder in {_folder(name) for name in names}}
    for part in wanted:
        if not found.get(part):
            raise Unsuitable(_no_weights(f"its {part}", [name for name in names if _folder(name) == part]))
        if f"{part}/config.json" not in names:
            raise Unsuitable(f"it has no {part}/config.json")
    for part in SDXL_OTHERS:
        if index.get(part, [None])[0] is None or part not in found:
            raise Unsuitable(f"it has no {part}")
    weights = [name for folder, files in found.items() if folder != "vae" or own_vae for name in files]
    others = [
        name
        for name in names
        if _folder(name) in SDXL_OTHERS
        or ("/" not in name and name.endswith((".json", ".txt", ".model")))
        or name in [f"{part}/config.json" for part in wanted]
    ]
    return _needed(architecture, others, weights)


def image_configuration(names: Collection[str], read: Read) -> Needed:
    """The configuration and tokenizers that go with a Stable Diffusion XL in one file."""
    read("model_index.json")
    files = [name for name in names if name.endswith((".json", ".txt")) or ("/" in name and name.endswith(".model"))]
    return _needed("configuration of a Stable Diffusion XL", files)


def image_file(names: Collection[str], read: Read) -> Needed:
    """A whole Stable Diffusion XL in one file."""
    return Needed("Stable Diffusion XL in one file", tuple(names), SDXL_TENSOR)


def unet_weights(names: Collection[str], read: Read, *, file: str) -> Needed:
    """Weights of a UNet in one file, which may be one of many of a repository."""
    return Needed("weights of a UNet", (file,))


def vae(names: Collection[str], read: Read) -> Needed:
    """A VAE in diffusers' layout."""
    architecture = str(read("config.json").get("_class_name"))
    if architecture != "AutoencoderKL":
        raise Unsuitable(f"it is a {architecture}, not an AutoencoderKL")
    weights = _weights("", names, read, None)
    if not weights:
        raise Unsuitable(_no_weights("it", names))
    return _needed(architecture, ["config.json"], weights)


def _weights(folder: str, names: Collection[str], read: Read, variant: str | None) -> list[str]:
    """The weights that diffusers takes of a folder: those of the variant, else the plain ones."""
    stem = r"(diffusion_pytorch_model|pytorch_model|model|weights)"
    number = r"-\d{5}-of-\d{5}"
    plain = rf"{stem}({number})?\.safetensors|{stem}\.safetensors\.index\.json"
    of_variant = (
        rf"{stem}\.{variant}({number})?\.safetensors|{stem}\.safetensors\.index\.{variant}\.json"
        rf"|{stem}{number}\.{variant}\.safetensors|{stem}\.safetensors\.{variant}\.index\.json"
    )
    here = [name for name in names if _folder(name) == folder]
    for pattern in ([of_variant] if variant else []) + [plain]:
        if found := [name for name in here if re.fullmatch(pattern, PurePosixPath(name).name)]:
            for index in filter(is_index, found):
                _shards(index, names, read)
            return found
    return []


def is_index(name: str) -> bool:
    """Whether a file says which tensors are in which of several weight files."""
    return INDEX.fullmatch(name) is not None


def shards(index: str, content: dict[str, Any]) -> dict[str, str]:
    """Tensor to file, by the name that the file has in the model, of an index."""
    folder = PurePosixPath(index).parent
    return {tensor: str(folder / file) for tensor, file in (content.get("weight_map") or {}).items()}


def _shards(index: str, names: Collection[str], read: Read) -> list[str]:
    files = sorted(set(shards(index, read(index)).values()))
    if missing := [file for file in files if file not in names]:
        raise Unsuitable(f"it lacks {', '.join(missing)}, which {index} names")
    if wrong := [file for file in files if not file.endswith(".safetensors")]:
        raise Unsuitable(f"{index} names {wrong[0]}, which is not safetensors")
    return files


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent).removeprefix(".")


def _no_weights(what: str, names: Iterable[str]) -> str:
    pickles = sorted(PurePosixPath(name).name for name in names if name.endswith(PICKLES))
    there = f" (only {', '.join(pickles[:3])})" if pickles else ""
    return f"{what} has no safetensors weights{there}; other kinds of weights are not loaded"


def _needed(architecture: str, *files: Iterable[str]) -> Needed:
    return Needed(architecture, tuple(sorted({name for some in files for name in some})))
