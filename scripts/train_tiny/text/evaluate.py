"""Measures a trained model on what training never showed it, with transformers.

    PYTHONPATH=scripts python3 -m train_tiny.text.evaluate models/tiny-gemma

Stories: requests whose hero and place never met in training. New words: requests for a hero of a made-up kind that is
in no training story. JSON: requests for named keys. Perplexity: plain stories of training and held-out ones.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tiny_models.gemma_tokenizer import EOS
from train_tiny.text.chats import request
from train_tiny.text.documents import END_OF_TURN, IGNORED, encode, make_document
from train_tiny.text.forms import make_form
from train_tiny.text.stories import Split, made_up_word, make_story

TEMPERATURE = 0.7
MAX_NEW_TOKENS = 400
BATCH = 100


def evaluate(folder: Path, *, count: int = 100, seed: int = 0, device: str = "cpu") -> dict[str, Any]:
    """All measures of the model in `folder`, each over `count` requests; `seed`: that of its training.

    Shares are between 0 and 1. `both` is the share of stories that name the hero and the place asked for, `ends` the
    share that end by themselves within 400 tokens, `distinct` the share of different stories.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    rng = random.Random(f"evaluation {seed}")
    usual = [_story_request(rng) for _ in range(count)]
    new = [_story_request(rng, made_up_word(rng, "held-out")) for _ in range(count)]
    forms = list(_form_requests(rng, count))
    found: dict[str, Any] = {"count": count}
    for name, temperature in (("greedy", 0.0), ("sampled", TEMPERATURE)):
        answers = answer(model, tokenizer, [asked[0] for asked in usual], temperature=temperature, seed=seed)
        found[name] = _story_shares(usual, answers)
        found[name]["samples"] = [
            {"request": asked[0], "story": text} for asked, (text, _) in zip(usual[:4], answers, strict=False)
        ]
    answers = answer(model, tokenizer, [asked[0] for asked in new])
    found["new_words"] = _story_shares(new, answers)
    answers = answer(model, tokenizer, [asked for asked, _ in forms])
    found["json"] = _form_shares(forms, answers)
    found["json"]["samples"] = [
        {"request": asked[0], "json": text} for asked, (text, _) in zip(forms[:6], answers, strict=False)
    ]
    splits: tuple[Split, Split] = ("train", "held-out")
    train, held_out = (perplexity(model, tokenizer, seed, split, count) for split in splits)
    found["perplexity"] = {"train": train, "held_out": held_out, "ratio": held_out / train}
    return found


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[str],
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[tuple[str, bool]]:
    """The model's answer to each request, and whether it ended by itself; temperature 0 is greedy."""
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    torch.manual_seed(seed)
    answers = []
    for start in range(0, len(requests), BATCH):
        chats = [[{"role": "user", "content": text}] for text in requests[start : start + BATCH]]
        encoded = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        ).to(model.device)
        output = model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, **sampling)
        for tokens in output[:, encoded["input_ids"].shape[1] :].tolist():
            ends = [number for number, token in enumerate(tokens) if token in (EOS, END_OF_TURN)]
            kept = tokens[: ends[0]] if ends else tokens
            answers.append((tokenizer.decode(kept, skip_special_tokens=True), bool(ends)))
    return answers


@torch.inference_mode()
def perplexity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int, split: Split, count: int
) -> float:
    """The perplexity per token of the first `count` plain stories of that seed and split."""
    numbers = range(count * 5)  # a third of the documents are plain stories
    documents = [make_document(seed, number, split) for number in numbers]
    plain = [document for document in documents if not document.is_chat][:count]
    loss, tokens = 0.0, 0
    for ids, labels in encode(tokenizer, plain):
        logits = model(torch.tensor(ids[None].astype("int64"), device=model.device)).logits[0, :-1].float()
        targets = torch.tensor(labels[1:].astype("int64"), device=model.device)
        loss += torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum").item()
        tokens += int((targets != IGNORED).sum())
    return float(torch.tensor(loss / tokens).exp())


def _story_request(rng: random.Random, kind: str | None = None) -> tuple[str, str, str]:
    """A request, and the hero and the place it names."""
    story = make_story(rng, "held-out", kind=kind, usual=True)
    return request(rng, story, full=True), story.slots["kind"], story.slots["place"]


def _story_shares(asked: list[tuple[str, str, str]], answers: list[tuple[str, bool]]) -> dict[str, Any]:
    heroes = [_names(text, kind) for (_, kind, _), (text, _) in zip(asked, answers, strict=True)]
    places = [_names(text, place) for (_, _, place), (text, _) in zip(asked, answers, strict=True)]
    return {
        "hero": _share(heroes),
        "place": _share(places),
        "both": _share([hero and place for hero, place in zip(heroes, places, strict=True)]),
        "ends": _share([ended for _, ended in answers]),
        "distinct": len({text for text, _ in answers}) / len(answers),
    }


def _form_requests(rng: random.Random, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that name their keys, and an object that has them."""
    while count:
        turns, is_forced = make_form(rng, "held-out")
        expected = json.loads(turns[-1])
        if len(turns) > 2 or is_forced or not isinstance(expected, dict):
            continue
        if all(_names(turns[0], key) and not isinstance(value, dict | list) for key, value in expected.items()):
            count -= 1
            yield turns[0], expected


def _form_shares(forms: list[tuple[str, dict[str, Any]]], answers: list[tuple[str, bool]]) -> dict[str, Any]:
    parsed = [_parse(text) for text, _ in answers]
    pairs = [(expected, given) for (_, expected), given in zip(forms, parsed, strict=True)]
    return {
        "valid": _share([isinstance(given, dict) for _, given in pairs]),
        "keys": _share([isinstance(given, dict) and set(given) == set(expected) for expected, given in pairs]),
        "taken_over": _share(
            [
                isinstance(given, dict) and given.get(key) == value
                for (asked, expected), given in zip(forms, parsed, strict=True)
                for key, value in expected.items()
                if isinstance(value, str) and _names(asked, value)
            ]
        ),
    }


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _names(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _share(marks: list[bool]) -> float:
    return sum(marks) / max(1, len(marks))


def main(
    model: Annotated[Path, typer.Argument(help="The model folder.")],
    count: Annotated[int, typer.Option(min=1, help="How many requests of each kind.")] = 100,
    seed: Annotated[int, typer.Option(help="The seed of the model's training.")] = 0,
) -> None:
    """Print the measures of a trained tiny Gemma as JSON."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    typer.echo(json.dumps(evaluate(model, count=count, seed=seed, device=device), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
