"""Texts on the page, as a person has them generated."""

import re
from collections.abc import Callable
from itertools import pairwise

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from browser.page_parts import NEEDS_CHROMIUM, STORY, TEXT_STREAM, button, field, generate, output, panel, stream, terms
from conftest import Server, wait_for

pytestmark = NEEDS_CHROMIUM

ENDLESS = STORY | {"Max tokens": "3500"}
# The page keeps the texts itself: asked from outside, it may have shown most of them between two questions.
NOTE_EACH_CHANGE = """shown => {
    window.texts = [""];
    const watched = {childList: true, characterData: true, subtree: true};
    new MutationObserver(() => texts.push(shown.textContent)).observe(shown, watched);
}"""


def generated(server: Server) -> float:
    """Tokens that the gateway has seen generated for requests that have ended."""
    lines = httpx.get(f"{server.api_url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("fictures_gateway_generated_tokens_total "))


def test_a_text_grows_as_it_is_generated(page: Page, server: Server) -> None:
    output(page).evaluate(NOTE_EACH_CHANGE)
    text = generate(page, STORY | {"Max tokens": "400"})
    expect(text.get_by_text("Finished: 400 tokens, length.")).to_be_visible(timeout=60_000)
    came = page.evaluate("texts")
    assert all(later.startswith(earlier) for earlier, later in pairwise(came))
    assert len(set(came)) > 3
    body = {"prompt": STORY["Prompt"], "max_tokens": 400, "temperature": 0, "top_p": 0.9}
    whole = httpx.post(f"{server.api_url}/api/v1/text/generate", json=body, timeout=60).json()["text"]
    assert output(page).text_content() == whole
    stats = terms(text)
    assert (stats["Tokens"], stats["Finish reason"]) == ("400", "length")
    assert float(stats["Tokens per second"]) > 1
    assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", stats["Time to first token"])


@pytest.mark.parametrize(
    "stop",
    [lambda text: button(text, "Stop").click(), lambda text: text.page.keyboard.press("Escape")],
    ids=["by its button", "by Escape"],
)
def test_a_text_that_is_stopped_keeps_what_came(page: Page, server: Server, stop: Callable[[Locator], None]) -> None:
    before = generated(server)
    text = generate(page, ENDLESS)
    expect(output(page)).not_to_be_empty()
    stop(text)
    expect(text.get_by_role("status")).to_have_text("Stopped.")
    kept = output(page).text_content()
    assert terms(text)["Finish reason"] == "stopped"
    wait_for(lambda: generated(server) > before, 5, "the gateway has ended the request")
    assert generated(server) - before < 3500
    assert output(page).text_content() == kept
    generate(page, STORY)
    expect(text.get_by_text("Finished: 40 tokens, length.")).to_be_visible()


def test_escape_stops_what_the_focus_is_on(page: Page) -> None:
    text, image = generate(page, ENDLESS), panel(page, "Image")
    field(image, "Prompt").press("Escape")
    came = output(page).text_content()
    expect(output(page)).not_to_have_text(came or "")
    field(text, "Prompt").press("Escape")
    expect(text.get_by_role("status")).to_have_text("Stopped.")


def test_a_text_is_shown_as_it_is_and_never_as_html(page: Page) -> None:
    told = "<img src=nowhere onerror=alert(1)>\n  <b>\u2028&amp;"
    page.route(TEXT_STREAM, lambda route: stream(route, {"text": told, "tokens_used": 1, "done": True}))
    generate(page, STORY)
    expect(output(page)).to_have_js_property("textContent", told)
    expect(output(page).locator("*")).to_have_count(0)
