"""A random LoRA adapter for a tiny Gemma, in the folder layout and with the names that PEFT writes."""

import json
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from tiny_models.gemma_weights import SET_BY_HAND

RANK = 8
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def save_adapter(weights: dict[str, torch.Tensor], folder: Path, *, name: str, seed: int) -> None:
    """Writes adapter_config.json and adapter_model.safetensors for `weights`, a tiny Gemma's state dict.

    The same name and seed give the same adapter; another name gives another. Its scale is that of the weights it is
    added to, so that greedy text changes from the first tokens on.
    """
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    tensors: dict[str, torch.Tensor] = {}
    for key, weight in weights.items():
        module = key.removesuffix(".weight")
        if module.rsplit(".", 1)[-1] not in TARGETS:
            continue
        rows, columns = weight.shape
        lora_b = torch.randn(rows, RANK, generator=generator) * weight.std() / RANK**0.5
        if module.endswith("o_proj"):
            lora_b[:SET_BY_HAND] = 0
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        tensors[f"base_model.model.{module}.lora_B.weight"] = lora_b
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": list(TARGETS),
        "use_dora": False,
        "use_rslora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
