"""A small tokenizer in Gemma's manner: BPE over text whose spaces are '▁', with byte fallback.

What the vocabulary lacks, emoji and accented letters among it, is cut into the byte tokens `<0x00>` to `<0xFF>`,
as in Gemma. The reserved tokens have Gemma's own ids; the learned ones follow the byte tokens.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from tiny_models.corpus import sentences

Architecture = Literal["gemma", "gemma2", "gemma3"]

PAD, EOS, BOS, UNK = 0, 1, 2, 3
FIRST_BYTE = 217
FIRST_LEARNED = FIRST_BYTE + 256
LEARNED = 2087
PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]

# Gemma 1 and 2 know users and models only; Gemma 3 takes a system message and puts it before the first turn.
_NO_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{{ raise_exception('This model takes no system message: put its text into the first user message.') }}
{%- endif -%}
{%- set opening = '' -%}
{%- set turns = messages -%}
"""
_FOLD_SYSTEM = """\
{%- set opening = '' -%}
{%- set turns = messages -%}
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set turns = messages[1:] -%}
{%- if messages[0]['content'] is string -%}
{%- set opening = messages[0]['content'] ~ '\\n\\n' -%}
{%- else -%}
{%- set opening = messages[0]['content'][0]['text'] ~ '\\n\\n' -%}
{%- endif -%}
{%- endif -%}
"""
_TURNS = """\
{{ bos_token }}
{%- for message in turns -%}
{%- if message['role'] != ('user' if loop.index0 is even else 'assistant') -%}
{{ raise_exception('Messages must take turns, beginning with the user: user, assistant, user, ...') }}
{%- endif -%}
{{ '<start_of_turn>' ~ ('model' if message['role'] == 'assistant' else 'user') ~ '\\n' }}
{%- if loop.first -%}
{{ opening }}
{%- endif -%}
{%- if message['content'] is string -%}
{{ message['content'] | trim }}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'text' -%}
{{ part['text'] | trim }}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""


def chat_template(architecture: Architecture) -> str:
    """The Jinja template that turns a list of messages into Gemma's turns."""
    return (_FOLD_SYSTEM if architecture == "gemma3" else _NO_SYSTEM) + _TURNS


def start_of_turn(architecture: Architecture) -> int:
    """The id of `<start_of_turn>`; `<end_of_turn>` is the next one."""
    return 105 if architecture == "gemma3" else 106


def reserved_tokens(architecture: Architecture) -> list[str]:
    """The tokens below the learned ones, by id: specials, turns, runs of newlines and spaces, bytes."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<2mass>", "[@BOS@]"]
    turn = start_of_turn(architecture)
    tokens += [f"<unused{number}>" for number in range(turn - len(tokens))]
    tokens += ["<start_of_turn>", "<end_of_turn>"]
    tokens += ["\n" * length for length in range(1, 32)]
    tokens += ["▁" * length for length in range(2, 32)]
    tokens += [f"<unused{100 + number}>" for number in range(FIRST_BYTE - len(tokens))]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    return tokens


def build_tokenizer(
    architecture: Architecture, texts: Iterable[str] | None = None, learned: int = LEARNED
) -> Tokenizer:
    """Learns the merges and returns the whole tokenizer; the same texts always give the same one.

    `texts`: what it learns from; None: the sentences of corpus.py. `learned`: at most so many tokens are learned.
    """
    reserved = reserved_tokens(architecture)
    tokens, merges = _learn(sentences(4000) if texts is None else texts, learned, set(reserved))
    vocabulary = {token: number for number, token in enumerate(reserved)}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    for number in range(-len(vocabulary) % 64):
        vocabulary[f"<unused{200 + number}>"] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos>:0 $A:0", pair="<bos>:0 $A:0 <bos>:1 $B:1", special_tokens=[("<bos>", BOS)]
    )
    turn = start_of_turn(architecture)
    for number, token in enumerate(reserved[:FIRST_BYTE]):
        is_special = number <= 4 or number in (turn, turn + 1)
        added = AddedToken(token, normalized=False, special=is_special)
        if is_special:
            tokenizer.add_special_tokens([added])
        elif not token.startswith("▁"):
            tokenizer.add_tokens([added])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, architecture: Architecture) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into `folder`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    template = chat_template(architecture)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": template,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _learn(texts: Iterable[str], size: int, reserved: set[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens (single characters first) and merges, learned word by word so that no merge crosses a space."""
    learner = Tokenizer(BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[A-Za-z]+|."), behavior="isolated")
    trainer = BpeTrainer(vocab_size=size, initial_alphabet=["▁", *PRINTABLE], min_frequency=1, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert not reserved.intersection(tokens), "a learned token has a reserved token's text"
    return tokens, [(left, right) for left, right in model["merges"]]
