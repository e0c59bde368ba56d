"""The tiny Gemma that comes with the project does what its card says."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GemmaForCausalLM, PreTrainedTokenizerBase

from train_tiny.text.evaluate import answer

FOLDER = Path(__file__).resolve().parents[2] / "models/tiny-gemma"


@pytest.fixture(scope="module")
def model() -> GemmaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(FOLDER, padding_side="left")


def test_a_beginning_is_continued_to_an_end(model: GemmaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = tokenizer("Once upon a time", return_tensors="pt")
    [tokens] = model.generate(**encoded, max_new_tokens=400, do_sample=False)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    assert tokens[-1] == tokenizer.eos_token_id
    assert text.startswith("Once upon a time")
    assert text.count(".") >= 5
    assert text[-1] in '.!?"'


def test_a_story_is_about_what_was_asked_for_and_ends(
    model: GemmaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    wanted = [("fox", "forest"), ("mouse", "lake"), ("robot", "lighthouse")]
    requests = [f"Tell a story about a {hero} in the {place}" for hero, place in wanted]
    for (text, ended), (hero, place) in zip(answer(model, tokenizer, requests), wanted, strict=True):
        assert hero in text
        assert place in text
        assert ended


def test_files_are_small_and_the_card_tells_what_is_measured() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sizes["model.safetensors"] < 9_000_000
    assert sum(sizes.values()) < 10_000_000
    report = json.loads((FOLDER / "report.json").read_text())
    assert f"| names both | {report['evaluation']['greedy']['both']:.0%} |" in (FOLDER / "README.md").read_text()
