"""Lays the settings over a run-time copy of `model_repository/`; the committed files are never edited."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fictures.settings import Settings
from launcher.models import ImageModel, TextModel

TEXT_MODEL = "gemma"
IMAGE_ENGINE = "sdxl_stream"
IMAGE_MODEL = "sdxl"
MODELS = (TEXT_MODEL, IMAGE_ENGINE, IMAGE_MODEL)
"""What is served, by the names of its folders."""
ENGINES = {TEXT_MODEL: "text_input", IMAGE_ENGINE: "prompt"}
"""The models that hold an engine, which is asked for its health, and the one input that each must be given."""


def lay_out(
    source: Path,
    target: Path,
    settings: Settings,
    text_model: TextModel,
    image_model: ImageModel,
    lora_modules: Mapping[str, str],
    *,
    compiled: bool,
) -> None:
    """Replace `target` with a copy of `source` in which the settings hold. `compiled`: vLLM may compile the model."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    eager = {} if compiled else {"enforce_eager": True}
    _merge(target / TEXT_MODEL / "1" / "model.json", engine_arguments(settings, text_model) | eager)
    _merge(target / IMAGE_ENGINE / "1" / "model.json", image_settings(settings, image_model))
    if settings.model_loading == "lazy":
        for model in ENGINES:
            with (target / model / "config.pbtxt").open("a") as config:
                config.write('parameters: {\n  key: "MODEL_LOADING"\n  value: { string_value: "lazy" }\n}\n')
    if lora_modules:
        _write(target / TEXT_MODEL / "1" / "multi_lora.json", lora_modules)


def engine_arguments(settings: Settings, text_model: TextModel) -> dict[str, Any]:
    """The settings as vLLM's `AsyncEngineArgs`, the content of `gemma/1/model.json`."""
    arguments: dict[str, Any] = {
        "model": text_model.name,
        "dtype": text_model.dtype,
        "max_model_len": settings.text_max_model_len,
        "gpu_memory_utilization": settings.text_gpu_memory_utilization,
        "max_num_seqs": settings.vllm_max_num_seqs,
        "tensor_parallel_size": settings.vllm_tensor_parallel_size,
    }
    if text_model.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = text_model.kv_cache_bytes
    if settings.text_revision and not text_model.is_local:
        arguments["revision"] = settings.text_revision
    if settings.text_lora_modules:
        arguments["enable_lora"] = True
    return arguments


def image_settings(settings: Settings, image_model: ImageModel) -> dict[str, Any]:
    """The settings as the image engine's, the content of `sdxl_stream/1/model.json`."""
    return {
        "model": image_model.name,
        "gpu_memory_utilization": settings.image_gpu_memory_utilization,
        "enable_cpu_offload": settings.diffusers_enable_cpu_offload,
        "enable_attention_slicing": settings.diffusers_enable_attention_slicing,
        "enable_vae_slicing": settings.diffusers_enable_vae_slicing,
        "enable_vae_tiling": settings.diffusers_enable_vae_tiling,
    }


def _merge(path: Path, content: Mapping[str, Any]) -> None:
    """Lay `content` over the JSON object in the file, which need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    committed = json.loads(path.read_text()) if path.is_file() else {}
    _write(path, committed | content)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2) + "\n")
