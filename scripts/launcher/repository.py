"""Lays the settings over a run-time copy of `model_repository/`; the committed files are never edited."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fictures.settings import Settings
from launcher.models import TextModel

TEXT_MODEL = "gemma"


def lay_out(
    source: Path,
    target: Path,
    settings: Settings,
    text_model: TextModel,
    lora_modules: Mapping[str, str],
    *,
    compiled: bool,
) -> None:
    """Replace `target` with a copy of `source` in which the settings hold. `compiled`: vLLM may compile the model."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    version = target / TEXT_MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    committed = version / "model.json"
    engine = json.loads(committed.read_text()) if committed.is_file() else {}
    _write(committed, engine | engine_arguments(settings, text_model) | ({} if compiled else {"enforce_eager": True}))
    if settings.model_loading == "lazy":
        with (target / TEXT_MODEL / "config.pbtxt").open("a") as config:
            config.write('parameters: {\n  key: "MODEL_LOADING"\n  value: { string_value: "lazy" }\n}\n')
    if lora_modules:
        _write(version / "multi_lora.json", lora_modules)


def engine_arguments(settings: Settings, text_model: TextModel) -> dict[str, Any]:
    """The settings as vLLM's `AsyncEngineArgs`, the content of `model.json`."""
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


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2) + "\n")
