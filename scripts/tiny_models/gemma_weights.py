"""Random weights for a tiny Gemma whose greedy text varies and whose byte tokens form whole characters.

Weights drawn at random alone would answer every prompt with one token for ever (Gemma ties its output to its
embeddings) or with stray bytes. So the layers' random part outweighs the embedding in the residual stream, and a few
dimensions and neurons are set by hand: they carry, from the last layer's MLP to the logits, which class of byte token
must follow the one just read. The model then writes words with emoji, kana and accented letters between them, each
cut into byte tokens.
"""

from dataclasses import dataclass

import torch
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig, PretrainedConfig

from tiny_models.gemma_tokenizer import BOS, EOS, FIRST_BYTE, PAD, Architecture, start_of_turn

HIDDEN, INTERMEDIATE, LAYERS, HEAD_DIM, HEADS = 256, 512, 3, 64, 4
CONTEXT = 8192
SLIDING_WINDOW = 64


@dataclass(frozen=True)
class ByteClass:
    """Byte tokens that may follow one another: after any of `members` comes a byte of class `followed_by`."""

    members: tuple[int, ...]
    followed_by: int | None


# UTF-8 in five classes, cut down to ranges in which every combination is a character that exists:
# F0 9F {90…98} {A0…BF} (emoji), E3 {81…83} {A0…BF} (kana) and C3 {A0…BF} (accented letters).
LAST, EMOJI_SECOND, EMOJI_THIRD, KANA_SECOND = range(4)
CLASSES = {
    LAST: ByteClass(tuple(range(0xA0, 0xC0)), None),
    EMOJI_SECOND: ByteClass((0x9F,), EMOJI_THIRD),
    EMOJI_THIRD: ByteClass((0x90, 0x91, 0x92, 0x94, 0x95, 0x98), LAST),
    KANA_SECOND: ByteClass((0x81, 0x82, 0x83), LAST),
}
LEADS = {0xF0: EMOJI_SECOND, 0xE3: KANA_SECOND, 0xC3: LAST}

# Dimensions of the residual stream that no random weight writes to: which class must come next (read by the last
# MLP), which class a token is of (written by it), and whether a token may stand on its own.
NEEDS = range(0, 4)
IS_A = range(4, 8)
FREE = 8
SET_BY_HAND = 9

# The standard deviation of the embeddings, small beside what the layers add (else a token mostly predicts itself),
# and what brings it back to where the last MLP reads and where the logits are taken.
SPREAD = 0.01
READING = 0.24 / SPREAD
FINAL_GAIN = 0.18 / SPREAD


def make_config(architecture: Architecture, vocabulary: int) -> PretrainedConfig:
    """The Hugging Face configuration of a tiny model of that architecture, about 2.5 million parameters."""
    turn = start_of_turn(architecture)
    common = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT,
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": [EOS, turn + 1],
        "dtype": "float32",
    }
    if architecture == "gemma":
        return GemmaConfig(**common, num_key_value_heads=1, architectures=["GemmaForCausalLM"])
    layered = {
        **common,
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": HEAD_DIM,
        "sliding_window": SLIDING_WINDOW,
    }
    if architecture == "gemma2":
        return Gemma2Config(
            **layered,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            attn_logit_softcapping=50.0,
            final_logit_softcapping=30.0,
            architectures=["Gemma2ForCausalLM"],
        )
    return Gemma3TextConfig(
        **layered,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        architectures=["Gemma3ForCausalLM"],
    )


def make_weights(
    config: PretrainedConfig, tokens: list[str], architecture: Architecture, *, seed: int
) -> dict[str, torch.Tensor]:
    """The state dict, fp32, by Hugging Face's names; `tokens` is the vocabulary by id."""
    generator = torch.Generator().manual_seed(seed)

    def random(rows: int, columns: int, gain: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * (gain / columns**0.5)

    def write(columns: int, gain: float) -> torch.Tensor:
        weight = random(HIDDEN, columns, gain)
        weight[:SET_BY_HAND] = 0
        return weight

    has_post_norms = architecture != "gemma"
    query, key_value = HEADS * HEAD_DIM, config.num_key_value_heads * HEAD_DIM
    weights = {
        "model.embed_tokens.weight": _embeddings(tokens, architecture, generator),
        "model.norm.weight": torch.full((HIDDEN,), FINAL_GAIN - 1),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {
            f"{prefix}self_attn.q_proj.weight": random(query, HIDDEN, 2),
            f"{prefix}self_attn.k_proj.weight": random(key_value, HIDDEN, 2),
            f"{prefix}self_attn.v_proj.weight": random(key_value, HIDDEN, 1),
            f"{prefix}self_attn.o_proj.weight": write(query, 4),
            f"{prefix}mlp.gate_proj.weight": random(INTERMEDIATE, HIDDEN, 1.5),
            f"{prefix}mlp.up_proj.weight": random(INTERMEDIATE, HIDDEN, 1),
            f"{prefix}mlp.down_proj.weight": write(INTERMEDIATE, 5),
            f"{prefix}input_layernorm.weight": torch.zeros(HIDDEN),
            f"{prefix}post_attention_layernorm.weight": torch.full((HIDDEN,), 2.0 if has_post_norms else 0.0),
        }
        if has_post_norms:
            weights[f"{prefix}pre_feedforward_layernorm.weight"] = torch.zeros(HIDDEN)
            weights[f"{prefix}post_feedforward_layernorm.weight"] = torch.full((HIDDEN,), 2.0)
        if architecture == "gemma3":
            weights[f"{prefix}self_attn.q_norm.weight"] = torch.ones(HEAD_DIM)
            weights[f"{prefix}self_attn.k_norm.weight"] = torch.ones(HEAD_DIM)
    _lead_bytes_on(weights, f"model.layers.{LAYERS - 1}.mlp.")
    return weights


def _embeddings(tokens: list[str], architecture: Architecture, generator: torch.Generator) -> torch.Tensor:
    """One row a token: random, and in the dimensions set by hand its class and whether it may stand alone."""
    turn = start_of_turn(architecture)
    lead = 13.5 if architecture == "gemma" else 15.5
    table = torch.randn(len(tokens), HIDDEN, generator=generator)
    table[:, :SET_BY_HAND] = 0
    for number, token in enumerate(tokens):
        byte = number - FIRST_BYTE
        if 0 <= byte < 256:
            free = lead if byte in LEADS else -16.0
        elif number in (EOS, turn + 1):
            free = 7.0
        elif token in ("▁", "\n"):
            free = -4.0  # unlikely: guided JSON allows blanks anywhere and would be nothing else
        elif number < FIRST_BYTE or token.startswith("<unused"):
            free = -16.0
        else:
            free = 10.0 if token.startswith("▁") else 7.0
        table[number, FREE] = free
    for kind, byte_class in CLASSES.items():
        for byte in byte_class.members:
            table[FIRST_BYTE + byte, IS_A[kind]] = 32.0
            if byte_class.followed_by is not None:
                table[FIRST_BYTE + byte, NEEDS[byte_class.followed_by]] = 16.0
    for byte, kind in LEADS.items():
        table[FIRST_BYTE + byte, NEEDS[kind]] = 16.0
    return table * SPREAD


def _lead_bytes_on(weights: dict[str, torch.Tensor], mlp: str) -> None:
    """Sets the last MLP's first neurons: 'class k must follow' makes class k likely; else what may stand alone."""
    gate, up, down = (weights[f"{mlp}{name}_proj.weight"] for name in ("gate", "up", "down"))
    readers = [(NEEDS[kind], READING, IS_A[kind], 12.0) for kind in CLASSES]
    readers += [(FREE, READING, FREE, 2.0), (FREE, -0.6 * READING, FREE, 2.0)]
    for neuron, (read_from, reading, write_to, writing) in enumerate(readers):
        for weight in (gate, up):
            weight[neuron] = 0
            weight[neuron, read_from] = reading
        down[:, neuron] = 0
        down[write_to, neuron] = writing
