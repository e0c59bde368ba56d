"""Lays the settings over a run-time copy of `model_repository/`; the committed files are never edited."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fictures.settings import Settings
from launcher.models import LORA_RANKS, ImageModel, LoraAdapter, TextModel
from launcher.tracing import Tracing

TEXT_MODEL = "gemma"
IMAGE_ENGINE = "sdxl_stream"
IMAGE_MODEL = "sdxl"
ENGINES = {TEXT_MODEL: "text_input", IMAGE_ENGINE: "prompt"}
"""The models that hold an engine, which is asked for its health, and the one input that each must be given."""

MOST_LORAS = 8
"""Most adapters that get a place in GPU memory of their own; more than these take turns."""


def served_models(settings: Settings) -> tuple[str, ...]:
    """The models that Triton is to serve, by the names of their folders."""
    text = (TEXT_MODEL,) if "text" in settings.serve else ()
    images = (IMAGE_ENGINE, IMAGE_MODEL) if "images" in settings.serve else ()
    return (*text, *images)


def lay_out(
    source: Path,
    target: Path,
    settings: Settings,
    text_model: TextModel,
    image_model: ImageModel,
    lora_modules: Mapping[str, LoraAdapter],
    *,
    compiled: bool,
    tracing: Tracing | None,
) -> None:
    """Replace `target` with a copy of `source` in which the settings hold. `compiled`: vLLM may compile the model."""
    shutil.rmtree(target, ignore_errors=True)
    served = served_models(settings)
    for model in served:
        shutil.copytree(source / model, target / model, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    if TEXT_MODEL in served:
        path = target / TEXT_MODEL / "1" / "model.json"
        arguments = engine_arguments(settings, text_model) | lora_arguments(lora_modules, _read(path))
        if not compiled:
            arguments["enforce_eager"] = True
        if tracing:
            arguments["otlp_traces_endpoint"] = tracing.url
        _merge(path, arguments)
        _add_parameter(target / TEXT_MODEL, "STREAM_INTERVAL_MS", str(settings.text_stream_interval_ms))
    if IMAGE_ENGINE in served:
        _merge(target / IMAGE_ENGINE / "1" / "model.json", image_settings(settings, image_model))
    if settings.model_loading == "lazy":
        for model in ENGINES.keys() & set(served):
            _add_parameter(target / model, "MODEL_LOADING", "lazy")
    if lora_modules and TEXT_MODEL in served:
        _write(
            target / TEXT_MODEL / "1" / "multi_lora.json", {name: lora.folder for name, lora in lora_modules.items()}
        )


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
    if settings.vllm_pipeline_parallel_size != 1:
        arguments["pipeline_parallel_size"] = settings.vllm_pipeline_parallel_size
    if settings.vllm_distributed_executor_backend:
        arguments["distributed_executor_backend"] = settings.vllm_distributed_executor_backend
    if settings.text_quantization:
        arguments["quantization"] = settings.text_quantization
    if settings.text_load_format == "dummy":
        arguments["load_format"] = "dummy"
    if text_model.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = text_model.kv_cache_bytes
    if settings.text_revision and not text_model.is_local:
        arguments["revision"] = settings.text_revision
    return arguments


def lora_arguments(lora_modules: Mapping[str, LoraAdapter], committed: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM has to know of the adapters: room for the largest of them, and how many may be in one batch."""
    if not lora_modules:
        return {}
    largest = max(committed.get("max_lora_rank", 1), *(lora.rank for lora in lora_modules.values()))
    return {
        "enable_lora": True,
        "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= largest),
        "max_loras": committed.get("max_loras", min(len(lora_modules), MOST_LORAS)),
    }


def image_settings(settings: Settings, image_model: ImageModel) -> dict[str, Any]:
    """The settings as the image engine's, the content of `sdxl_stream/1/model.json`."""
    revision = {"revision": settings.image_revision} if settings.image_revision and not image_model.is_local else {}
    side = image_model.side
    defaults = {"defaults": {"width": side, "height": side}} if side else {}
    return (
        revision
        | defaults
        | {
            "model": image_model.name,
            "gpu_memory_utilization": settings.image_gpu_memory_utilization,
            "enable_cpu_offload": settings.diffusers_enable_cpu_offload,
            "enable_attention_slicing": settings.diffusers_enable_attention_slicing,
            "enable_vae_slicing": settings.diffusers_enable_vae_slicing,
            "enable_vae_tiling": settings.diffusers_enable_vae_tiling,
        }
    )


def _add_parameter(model: Path, name: str, value: str) -> None:
    with (model / "config.pbtxt").open("a") as config:
        config.write(f'parameters: {{\n  key: "{name}"\n  value: {{ string_value: "{value}" }}\n}}\n')


def _merge(path: Path, content: Mapping[str, Any]) -> None:
    """Lay `content` over the JSON object in the file, which need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, _read(path) | content)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2) + "\n")
