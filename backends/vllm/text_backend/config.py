"""What a model's folder says about how it is served: `1/model.json`, `1/multi_lora.json`, `config.pbtxt`."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_INTERVAL_MS = 1000


class SetupError(Exception):
    """The model's folder is not right; the message says what to change. Loading fails with it."""


@dataclass(frozen=True)
class ModelSetup:
    """One model instance: vLLM's `AsyncEngineArgs` as keyword arguments, its LoRA adapters and labels."""

    engine_args: dict[str, Any]
    longest_hold: float
    """Seconds that a stream's text may wait for more before it is sent."""
    lora_paths: dict[str, str] = field(default_factory=dict)
    metric_labels: dict[str, str] = field(default_factory=dict)
    report_metrics: bool = False
    lazy: bool = False
    """Whether the model is loaded at its first request, not when Triton loads it."""

    @classmethod
    def load(cls, args: dict[str, str], model_dir: Path) -> "ModelSetup":
        """Reads the folder; `args` are those that Triton gives `initialize`.

        Raises:
            SetupError: a file is missing or not what it should be.
        """
        config = json.loads(args["model_config"])
        if not config.get("model_transaction_policy", {}).get("decoupled", False):
            raise SetupError("config.pbtxt: model_transaction_policy must be decoupled for the vllm backend")
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        engine_args = _read_object(model_dir / "model.json")
        return cls(
            engine_args=engine_args,
            lora_paths=_lora_paths(engine_args, model_dir / "multi_lora.json"),
            metric_labels={
                "model": args["model_name"],
                "version": args["model_version"],
                "instance": args["model_instance_name"],
                # While a model is reloaded two processes report for the same instance. Triton 2.51 would give both the
                # same metric and free it with the first of them: the server crashes.
                "pid": str(os.getpid()),
            },
            longest_hold=_milliseconds(parameters.get("STREAM_INTERVAL_MS", "40")) / 1000,
            lazy=parameters.get("MODEL_LOADING", "eager") == "lazy",
            report_metrics=parameters.get("REPORT_CUSTOM_METRICS", "false").lower() in ("true", "yes", "1"),
        )


def _milliseconds(text: str) -> int:
    if not text.isdecimal() or int(text) > LONGEST_INTERVAL_MS:
        raise SetupError(
            f"config.pbtxt: STREAM_INTERVAL_MS must be a whole number from 0 to {LONGEST_INTERVAL_MS}, not {text!r}"
        )
    return int(text)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(f"{path} is missing: it holds vLLM's engine arguments as a JSON object") from None
    except ValueError as error:
        raise SetupError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise SetupError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def _lora_paths(engine_args: dict[str, Any], path: Path) -> dict[str, str]:
    enabled = str(engine_args.get("enable_lora", "false")).lower() == "true"
    if not enabled:
        return {}
    engine_args["enable_lora"] = True  # the contract allows the text "true"
    lora_paths = _read_object(path)
    for name, location in lora_paths.items():
        if not isinstance(location, str):
            raise SetupError(f"{path}: adapter {name!r} must be a path, not {location!r}")
    return lora_paths
