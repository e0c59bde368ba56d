"""What the tiny models of the project make, through the real server: stories and pictures of what was asked for."""

import base64
import io
import json
from collections.abc import Iterator

import PIL.Image
import pytest
from openai import OpenAI

from conftest import Server
from train_tiny.images.reading import Reading, read_picture

WANTED = [("fox", "forest"), ("mouse", "lake"), ("robot", "lighthouse"), ("queen", "garden")]
HERO = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "animal": {"type": "string"}, "place": {"type": "string"}},
    "required": ["name", "animal", "place"],
    "additionalProperties": False,
}


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.api_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(("hero", "place"), WANTED)
def test_a_story_names_hero_and_place_and_ends_by_itself(client: OpenAI, hero: str, place: str) -> None:
    asked = {"role": "user", "content": f"Tell a story about a {hero} in the {place}"}
    text, reason = "", None
    for event in client.chat.completions.create(
        model="gemma", messages=[asked], max_tokens=400, temperature=0, stream=True
    ):
        for choice in event.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert hero in text
    assert place in text
    assert text.count(".") >= 5
    assert text.rstrip()[-1] in '.!?"'
    assert reason == "stop"


def test_a_beginning_is_continued_to_an_end(client: OpenAI) -> None:
    answer = client.completions.create(model="gemma", prompt="Once upon a time", max_tokens=400, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text.startswith(" there ")


def test_a_schema_is_filled_with_what_was_asked_for(client: OpenAI) -> None:
    asked = "Describe a fox named Elsa in the forest as JSON with name, animal, place."
    answer = client.chat.completions.create(
        model="gemma",
        messages=[{"role": "user", "content": asked}],
        max_tokens=200,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "hero", "schema": HERO}},
    )
    assert json.loads(answer.choices[0].message.content) == {"name": "Elsa", "animal": "fox", "place": "forest"}


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("a red boat on the sea under an orange sky", Reading("orange", "red", "boat")),
        ("a black cat in the snow under a pink sky", Reading("pink", "black", "cat")),
        ("a yellow lighthouse under a dark sky", Reading("dark", "yellow", "lighthouse")),
    ],
)
def test_the_words_decide_the_picture(client: OpenAI, prompt: str, seen: Reading) -> None:
    answer = client.images.generate(model="sdxl", prompt=prompt, extra_body={"seed": 3})
    assert answer.size == "256x256"
    assert answer.data
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or "")))
    assert picture.size == (256, 256)
    assert read_picture(picture) == seen
