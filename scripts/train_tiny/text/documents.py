"""Turns stories, chats and JSON into training rows: token ids, and which of them the model is to learn.

Document number n of a seed is always the same, however many processes make the documents.
"""

import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tiny_models.gemma_tokenizer import start_of_turn
from train_tiny.text.chats import make_chat
from train_tiny.text.forms import make_form
from train_tiny.text.stories import Split, make_story

START_OF_TURN = start_of_turn("gemma")
END_OF_TURN = START_OF_TURN + 1
NEWLINE = END_OF_TURN + 1
IGNORED = -100
CHUNK = 2000


@dataclass(frozen=True)
class Document:
    """Plain text, or a conversation that begins with the user."""

    turns: list[str]
    is_chat: bool = True
    is_forced: bool = False
    """Whether the last answer's first token is given to the model rather than learned."""


def make_document(seed: int, number: int, split: Split = "train") -> Document:
    """The document of that seed, number and split: 35 % stories, 45 % chats, 20 % conversations that end in JSON."""
    rng = random.Random(f"{seed} {split} {number}")
    luck = rng.random()
    if luck < 0.35:
        return Document([_plain(rng, split)], is_chat=False)
    if luck < 0.8:
        return Document(make_chat(rng, split))
    turns, is_forced = make_form(rng, split)
    if len(turns) == 2 and rng.random() < 0.1:
        return Document([" ".join(turns)], is_chat=False)
    return Document(turns, is_forced=is_forced)


def texts(seed: int, count: int) -> Iterator[str]:
    """What the tokenizer learns from: the first documents' paragraphs, and the words of Gemma's chat template."""
    yield from ["user", "model"] * 100
    for number in range(count):
        for turn in make_document(seed, number).turns:
            yield from turn.split("\n\n")


def encode(tokenizer: PreTrainedTokenizerBase, documents: list[Document]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each document's token ids and labels, int16; labels are the ids, or IGNORED where there is nothing to learn."""
    rendered = [_render(tokenizer, document) for document in documents]
    encoded = tokenizer(rendered, add_special_tokens=False, return_attention_mask=False).input_ids
    pairs = ((np.array(ids, dtype=np.int16), document) for ids, document in zip(encoded, documents, strict=True))
    return [(ids, _labels(ids, document)) for ids, document in pairs]


def make_rows(
    folder: Path, seed: int, count: int, context: int, split: Split = "train"
) -> tuple[np.ndarray, np.ndarray]:
    """`count` documents packed into rows: ids and labels, int16, each of shape (rows, context).

    A row begins with a document's beginning, as every prompt will, and the last document of a row is cut off.
    `folder` holds the tokenizer.
    """
    starts = range(0, count, CHUNK)
    work = partial(_encode_chunk, folder, seed, split, count)
    if len(starts) == 1:
        rows = _pack(work(0), context)
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            rows = _pack(chain.from_iterable(pool.map(work, starts)), context)
    ids, labels = (np.stack(arrays) for arrays in zip(*rows, strict=True))
    return ids, labels


def _pack(parts: Iterable[tuple[np.ndarray, np.ndarray]], context: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rows = []
    row: list[tuple[np.ndarray, np.ndarray]] = []
    for part in parts:
        row.append(part)
        if sum(len(ids) for ids, _ in row) >= context:
            ids, labels = (np.concatenate(arrays)[:context] for arrays in zip(*row, strict=True))
            rows.append((ids, labels))
            row = []
    return rows


def _plain(rng: random.Random, split: Split) -> str:
    story = make_story(rng, split)
    luck = rng.random()
    if luck < 0.1:
        return f"{story.slots['title']}\n\n{story.text}"
    if luck < 0.25:  # a text may begin anywhere
        return " ".join(story.beats[rng.randrange(1, len(story.beats) - 2) :])
    return story.text


def _render(tokenizer: PreTrainedTokenizerBase, document: Document) -> str:
    if not document.is_chat:
        return f"{tokenizer.bos_token}{document.turns[0]}{tokenizer.eos_token}"
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(document.turns)]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    return text


def _labels(ids: np.ndarray, document: Document) -> np.ndarray:
    if not document.is_chat:
        labels = ids.copy()
        labels[0] = IGNORED
        return labels
    labels = np.full_like(ids, IGNORED)
    starts, ends = np.flatnonzero(ids == START_OF_TURN), np.flatnonzero(ids == END_OF_TURN)
    for start, end in list(zip(starts, ends, strict=True))[1::2]:
        first = start + 1 + int(np.argmax(ids[start + 1 :] == NEWLINE)) + 1
        labels[first : end + 1] = ids[first : end + 1]
    if document.is_forced:
        labels[first] = IGNORED
    return labels


def _encode_chunk(folder: Path, seed: int, split: Split, count: int, start: int) -> list[tuple[np.ndarray, np.ndarray]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    numbers = range(start, min(start + CHUNK, count))
    return encode(tokenizer, [make_document(seed, number, split) for number in numbers])
