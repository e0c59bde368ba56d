"""Text bound by `structured_outputs` is what was asked for: JSON of a schema, a pattern, a choice, a grammar."""

import json
import re
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from conftest import Server
from triton_text import Response, generate, joined, stream

PROMPT = "Describe the hero of the story."
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["happy", "sad", "curious"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
CHOICES = ["a fox", "an owl", "ein Fisch 🐠"]
PATTERN = r"[A-Z][a-z]{2,8}-[0-9]{3}"
GRAMMAR = 'root ::= "SELECT " column " FROM " table\ncolumn ::= "name" | "age"\ntable ::= "heroes" | "places"'


def is_a_hero(text: str) -> bool:
    hero = json.loads(text)
    assert list(hero) == ["name", "age", "mood"]
    assert len(hero["name"]) <= 12
    assert 0 <= hero["age"] <= 150
    return hero["mood"] in SCHEMA["properties"]["mood"]["enum"]


KINDS = {
    "json": ({"json": SCHEMA}, is_a_hero),
    "json as text": ({"json": json.dumps(SCHEMA)}, is_a_hero),
    "regex": ({"regex": PATTERN}, lambda text: re.fullmatch(PATTERN, text)),
    "choice": ({"choice": CHOICES}, lambda text: text in CHOICES),
    "grammar": ({"grammar": GRAMMAR}, lambda text: re.fullmatch("SELECT (name|age) FROM (heroes|places)", text)),
}


async def bound(server: Server, structured_outputs: Any, *, streamed: bool = False, **parameters: Any) -> Response:
    given = {"max_tokens": 400, "structured_outputs": structured_outputs, **parameters}
    if streamed:
        return joined(await stream(server.grpc_url, PROMPT, parameters=given))
    return await generate(server.grpc_url, PROMPT, parameters=given)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("as_text", [True, False], ids=["JSON string", "object"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_text_is_what_was_asked_for(server: Server, kind: str, as_text: bool, streamed: bool) -> None:
    wanted, matches = KINDS[kind]
    response = await bound(server, json.dumps(wanted) if as_text else wanted, streamed=streamed)
    assert matches(response.text)
    assert response.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
async def test_sampled_text_matches_too(server: Server, seed: int) -> None:
    response = await bound(server, {"json": SCHEMA}, temperature=1.0, seed=seed)
    assert is_a_hero(response.text)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("{not json", id="not JSON"),
        pytest.param({}, id="nothing asked for"),
        pytest.param({"json": SCHEMA, "regex": PATTERN}, id="two kinds"),
        pytest.param({"poem": "sonnet"}, id="unknown kind"),
        pytest.param({"json": {"type": "no such type"}}, id="unknown type in the schema"),
        pytest.param({"json": "{broken"}, id="schema that is not JSON"),
        pytest.param({"regex": "[a-"}, id="broken pattern"),
        pytest.param({"choice": []}, id="no choices"),
        pytest.param({"grammar": "root ::= missing"}, id="grammar with an undefined rule"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_what_cannot_be_followed_is_refused_by_name(server: Server, wrong: Any, streamed: bool) -> None:
    with pytest.raises(InferenceServerException) as refused:
        await bound(server, wrong, streamed=streamed)
    assert "structured_outputs" in str(refused.value)


async def test_a_refused_request_leaves_its_neighbours_alone(server: Server) -> None:
    with pytest.raises(InferenceServerException):
        await bound(server, {"grammar": "root ::= missing"})
    response = await bound(server, {"choice": CHOICES})
    assert response.text in CHOICES
