"""The sizing tables of docs/models.md are what the models' configurations make them."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GemmaConfig

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
UTILIZATION = 0.5  # TEXT_GPU_MEMORY_UTILIZATION's default
OVERHEAD = 1.5 * GIB  # activations and CUDA graphs, as the page says
STREAM = 4096  # tokens


@dataclass(frozen=True)
class Facts:
    """Of a model's `config.json`."""

    config: type
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def kv_bytes(self) -> int:
        """A token's keys and values in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    @property
    def linear(self) -> int:
        """The weights that quantization makes smaller; embedding and norms stay in 16 bits."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    def weight_bytes(self, dtype: str) -> float:
        per_weight = {"bf16": 2, "8 bit": 1, "4 bit": (4 + (16 + 4) / 128) / 8}[dtype]
        return self.vocabulary * self.hidden * 2 + self.linear * per_weight

    def streams(self, dtype: str, gpu: int) -> int:
        left = UTILIZATION * gpu * GIB - OVERHEAD - self.weight_bytes(dtype)
        return max(0, int(left // (self.kv_bytes * STREAM)))


MODELS = {
    "gemma-2b": Facts(GemmaConfig, 18, 2048, 16384, 8, 1, 256, 256000),
    "gemma-7b": Facts(GemmaConfig, 28, 3072, 24576, 16, 16, 256, 256000),
    "gemma-2-2b": Facts(Gemma2Config, 26, 2304, 9216, 8, 4, 256, 256000),
    "gemma-2-9b": Facts(Gemma2Config, 42, 3584, 14336, 16, 8, 256, 256000),
    "gemma-3-1b": Facts(Gemma3TextConfig, 26, 1152, 6912, 4, 1, 256, 262144),
    "gemma-3-4b": Facts(Gemma3TextConfig, 34, 2560, 10240, 8, 4, 256, 262208),
}
SDXL = {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840, "vae": 83_653_863}


def row(name: str, dtype: str) -> str:
    facts = MODELS[name]
    streams = " | ".join(str(facts.streams(dtype, gpu) or "-") for gpu in (24, 40, 80))
    size, per_token = facts.weight_bytes(dtype) / GIB, facts.kv_bytes // 1024
    return f"| `{name}` | {dtype} | {size:.1f} | {per_token} | {streams} |"


@pytest.mark.parametrize("dtype", ["bf16", "8 bit", "4 bit"])
@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_the_text_models_is_computed_from_the_configuration(name: str, dtype: str) -> None:
    assert row(name, dtype) in (ROOT / "docs/models.md").read_text().splitlines()


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_counted_as_transformers_counts_them(name: str) -> None:
    facts = MODELS[name]
    config = facts.config(
        num_hidden_layers=facts.layers,
        hidden_size=facts.hidden,
        intermediate_size=facts.intermediate,
        num_attention_heads=facts.heads,
        num_key_value_heads=facts.kv_heads,
        head_dim=facts.head_dim,
        vocab_size=facts.vocabulary,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = sum(weight.numel() for weight in model.parameters())
    assert facts.weight_bytes("bf16") / 2 == pytest.approx(counted, rel=0.001)


def test_the_image_models_weights_are_those_of_its_parts() -> None:
    half = 2 * sum(count for part, count in SDXL.items() if part != "vae")
    text = (ROOT / "docs/models.md").read_text()
    assert re.search(rf"\b{(half + 4 * SDXL['vae']) / GIB:.1f} GiB", text)
    assert re.search(rf"\b{(half + 2 * SDXL['vae']) / GIB:.1f} GiB", text)
