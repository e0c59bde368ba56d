"""Greedy text through Triton is transformers' own greedy text from the same weights, token for token."""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from conftest import Architectures
from triton_text import Response, generate, joined, stream

TOKENS = 48
FAMILIES = ["gemma", "gemma2", "gemma3"]
RANDOM = ["gemma2", "gemma3"]  # their texts have characters of several tokens, and go on
OPENINGS = ["Once upon a time", "The quiet lighthouse", "Write about a café 😀", "You open the door\n\nand"]
# Lengths from a few tokens to well over the tiny models' sliding window of 64.
PROMPTS = [f"{OPENINGS[n % 4]} {'the old river ' * (n * n // 12)}{n}" for n in range(32)]
FIRST_BYTE, AFTER_BYTES = 217, 217 + 256  # ids of the byte tokens


@dataclass
class Reference:
    """One model in transformers, fp32; eager attention, the only one there with Gemma 2's soft cap."""

    folder: Path
    answers: dict[str, list[int]] = field(default_factory=dict)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def model(self) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="eager")

    def token_ids(self, prompt: str) -> list[int]:
        """The greedy answer, an end token included."""
        if prompt not in self.answers:
            encoded = self.tokenizer(prompt, return_tensors="pt")
            with torch.inference_mode():
                output = self.model.generate(**encoded, max_new_tokens=TOKENS, do_sample=False)
            self.answers[prompt] = output[0, encoded.input_ids.shape[1] :].tolist()
        return self.answers[prompt]

    def text(self, prompt: str) -> str:
        """The answer's text; a character that the last tokens leave incomplete is not text yet."""
        token_ids = self.token_ids(prompt)
        while (text := self.decode(token_ids)).endswith("\N{REPLACEMENT CHARACTER}"):
            token_ids = token_ids[:-1]
        return text

    def decode(self, token_ids: list[int]) -> str:
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)


@pytest.fixture(scope="module")
def references(architectures: Architectures) -> dict[str, Reference]:
    return {name: Reference(folder) for name, folder in architectures.model_dirs.items()}


async def answer(url: str, prompt: str, model: str, *, streamed: bool, **parameters: object) -> Response:
    arguments = {"model": model, "parameters": {"max_tokens": TOKENS, "logprobs": 0, **parameters}}
    if streamed:
        parts = await stream(url, prompt, **arguments)
        assert not any("\N{REPLACEMENT CHARACTER}" in part.text for part in parts), "no delta cuts a character"
        return joined(parts)
    return await generate(url, prompt, **arguments)


def assert_same(response: Response, reference: Reference, prompt: str) -> None:
    assert response.token_ids == reference.token_ids(prompt)
    assert response.text == reference.text(prompt)
    ends = reference.model.generation_config.eos_token_id
    assert response.finish_reason == ("stop" if response.token_ids[-1] in ends else "length")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAMILIES)
async def test_one_at_a_time(
    architectures: Architectures, references: dict[str, Reference], name: str, streamed: bool
) -> None:
    for prompt in [*PROMPTS[:4], PROMPTS[-1]]:
        response = await answer(architectures.grpc_url, prompt, name, streamed=streamed)
        assert_same(response, references[name], prompt)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAMILIES)
async def test_32_at_once(
    architectures: Architectures, references: dict[str, Reference], name: str, streamed: bool
) -> None:
    calls = [answer(architectures.grpc_url, prompt, name, streamed=streamed) for prompt in PROMPTS]
    for prompt, response in zip(PROMPTS, await asyncio.gather(*calls), strict=True):
        assert_same(response, references[name], prompt)


@pytest.mark.parametrize("name", RANDOM)
async def test_a_character_cut_across_tokens_arrives_whole(
    architectures: Architectures, references: dict[str, Reference], name: str
) -> None:
    reference = references[name]
    prompts = [prompt for prompt in PROMPTS if any(ord(letter) > 0x7F for letter in reference.text(prompt))]
    assert prompts, "the tiny model should write characters of several byte tokens"
    for prompt in prompts[:4]:
        cut = [token for token in reference.token_ids(prompt) if FIRST_BYTE <= token < AFTER_BYTES]
        assert len(cut) >= 2
        response = await answer(architectures.grpc_url, prompt, name, streamed=True)
        assert response.text == reference.text(prompt)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", RANDOM)
async def test_a_stop_string_across_two_tokens_ends_the_text_right_before_it(
    architectures: Architectures, references: dict[str, Reference], name: str, streamed: bool
) -> None:
    reference = references[name]
    for prompt in PROMPTS[:3]:
        text = reference.text(prompt)
        stop = across_two_tokens(reference, prompt, TOKENS // 2)
        response = await answer(architectures.grpc_url, prompt, name, streamed=streamed, stop=[stop])
        assert response.text == text[: text.index(stop)]
        assert response.finish_reason == "stop"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_stop_string_may_be_a_character_of_several_tokens(
    architectures: Architectures, references: dict[str, Reference], streamed: bool
) -> None:
    reference = references["gemma3"]
    prompt = next(prompt for prompt in PROMPTS if any(ord(letter) > 0x7F for letter in reference.text(prompt)))
    text = reference.text(prompt)
    stop = next(letter for letter in text if ord(letter) > 0x7F)
    response = await answer(architectures.grpc_url, prompt, "gemma3", streamed=streamed, stop=["never there", stop])
    assert response.text == text[: text.index(stop)]
    assert response.finish_reason == "stop"


def across_two_tokens(reference: Reference, prompt: str, position: int) -> str:
    """Text that begins inside one token of the answer, at `position` or later, and ends inside the next."""
    token_ids = reference.token_ids(prompt)
    for number in range(position, len(token_ids) - 1):
        first, second = (reference.decode([token]) for token in token_ids[number : number + 2])
        if len(first) > 3 and len(second) > 3:
            return first[-3:] + second[:3]
    pytest.fail(f"no two words in a row in the answer to {prompt!r}")
