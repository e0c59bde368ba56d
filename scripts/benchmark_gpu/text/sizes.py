"""Gemma's configurations at their real sizes, as folders that vLLM can serve with random weights."""

import json
import shutil
from enum import StrEnum
from pathlib import Path

from launcher.models import TINY_GEMMA

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
_VOCABULARY = 256_000


class Size(StrEnum):
    """The models that can be measured; tiny, for a look on a CPU, is the one that comes with the project."""

    tiny = "tiny-gemma"
    gemma_2b = "gemma-2b"
    gemma_2_9b = "gemma-2-9b"


# Hugging Face's `config.json` of google/gemma-2b and google/gemma-2-9b, where it says something of the size.
_SHAPES = {
    Size.gemma_2b: {
        "architectures": ["GemmaForCausalLM"],
        "model_type": "gemma",
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
    },
    Size.gemma_2_9b: {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_hidden_layers": 42,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
}
_OF_ALL = {
    "vocab_size": _VOCABULARY,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "torch_dtype": "bfloat16",
}


def make_folder(size: Size, parent: Path) -> Path:
    """A model folder without weights, whose name says so; its tokenizer is the tiny Gemma's.

    The 2,880 tokens of that tokenizer are the first of the vocabulary, whose other rows are computed but have no text.
    """
    folder = parent / f"{size.value}-random-weights"
    folder.mkdir()
    for name in _TOKENIZER:
        shutil.copy(TINY_GEMMA / name, folder)
    if size is Size.tiny:
        shutil.copy(TINY_GEMMA / "config.json", folder)
    else:
        (folder / "config.json").write_text(json.dumps(_OF_ALL | _SHAPES[size], indent=2) + "\n")
    return folder
