"""The messages that docs/troubleshooting.md explains are those that the code writes."""

import ast
import re
from functools import cache

import pytest

from conftest import ROOT
from launcher.failures import FAILURES

PAGE = ROOT / "docs/troubleshooting.md"
SOURCES = ("scripts/launcher", "client/fictures", "backends/vllm", "model_repository")
SCRIPTS = ("scripts/launcher/environment.sh", "docker/entrypoint.sh")
OF_TRITON = ("tests/integration/test_administration.py", "docs/image-model.md")
"""What holds Triton's own words, the first to a running one."""
HOLE = "\0"
"""What differs from one message to the next: a value in an f-string, a field of a template, `.*` in a pattern."""
FEWEST = 8
"""Constant characters that tell a message from others."""


def quoted() -> list[str]:
    """The messages in the first column of the page's tables."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.read_text(), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


def text_of(node: ast.JoinedStr | ast.Constant) -> str:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    parts = [value.value if isinstance(value, ast.Constant) else HOLE for value in values]
    return "".join(part for part in parts if isinstance(part, str))


@cache
def literals() -> frozenset[str]:
    """All strings of the code, with holes."""
    found = []
    for folder in SOURCES:
        for file in sorted((ROOT / folder).rglob("*.py")):
            nodes = ast.walk(ast.parse(file.read_text()))
            found += [text_of(node) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)]
    for script in SCRIPTS:
        found += re.findall(r'fail "(.*?)"$', (ROOT / script).read_text(), re.MULTILINE)
    found += ["\n".join((ROOT / file).read_text() for file in OF_TRITON)]
    return frozenset(re.sub(r"\{\w+\}|\.\*|\$\{.*?\}|\$\(.*?\)|\$\w+", HOLE, literal) for literal in found)


def is_in(message: str, literal: str) -> bool:
    """Whether the constant parts of the message follow each other in the literal, none of them over a hole."""
    place = 0
    for part in filter(None, (part.strip() for part in message.split("…"))):
        place = literal.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def is_written(message: str) -> bool:
    return any(is_in(message, literal) for literal in literals())


@pytest.mark.parametrize("message", quoted())
def test_every_message_is_one_of_the_code(message: str) -> None:
    assert len(message.replace("…", "").strip()) >= FEWEST
    assert is_written(message)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.pattern[:30])
def test_every_explained_failure_of_a_start_is_there(failure: object) -> None:
    (_, template) = failure  # type: ignore[misc]
    literal = re.sub(r"\{\w+\}", HOLE, template)
    assert any(is_in(message, literal) for message in quoted())


@pytest.mark.parametrize(
    "reworded", ["the GPU has too little memory: …", "… did come back after … attempts", "Triton was not reached"]
)
def test_other_words_are_not_found(reworded: str) -> None:
    assert not is_written(reworded)
