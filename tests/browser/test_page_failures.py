"""What the page says of what is wrong or fails, of the server's health, and of keys."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from browser.conftest import Guarded
from browser.page_parts import (
    BOAT,
    NEEDS_CHROMIUM,
    STORY,
    TEXT_STREAM,
    alert,
    button,
    draw,
    field,
    fill,
    generate,
    panel,
    stream,
    terms,
)

pytestmark = NEEDS_CHROMIUM

HALF = {"text": "Once", "tokens_used": 1, "done": False}


@pytest.mark.parametrize(
    ("name", "start", "label", "wrong"),
    [
        ("Image", "Draw", "Width", "257"),
        ("Image", "Draw", "Guidance", ""),
        ("Image", "Draw", "Seed", "seven"),
        ("Text", "Generate", "Prompt", ""),
        ("Text", "Generate", "Max tokens", "8193"),
    ],
)
def test_what_the_server_refuses_is_said_of_the_field(
    page: Page, expected: list[str], name: str, start: str, label: str, wrong: str
) -> None:
    expected.append("status of 422")
    place = panel(page, name)
    fill(place, {"Prompt": "a", label: wrong})
    button(place, start).press("Enter")
    expect(alert(place)).to_contain_text(f"{label}: ")
    expect(field(place, label)).to_have_attribute("aria-invalid", "true")
    expect(field(place, label)).to_be_focused()
    field(place, label).press("1")
    expect(field(place, label)).not_to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize(
    ("fulfil", "said"),
    [
        (lambda route: route.abort(), "The server could not be reached."),
        (lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"), "The server answered 502"),
        (
            lambda route: route.fulfill(status=503, headers={"Retry-After": "7"}, json={"detail": "It is loading."}),
            "It is loading.Try again in 7 s.",
        ),
        (lambda route: stream(route, {"error": "The model died.", "status": 503, "done": True}), "The model died."),
        (lambda route: stream(route, HALF), "The answer ended before it was complete."),
    ],
    ids=["unreachable", "proxy", "busy", "failed stream", "broken stream"],
)
def test_a_failure_is_said_and_the_next_try_may_succeed(
    page: Page, expected: list[str], fulfil: Callable[[Route], None], said: str
) -> None:
    expected.append("Failed to load resource")
    page.route(TEXT_STREAM, fulfil)
    text = generate(page, STORY)
    expect(alert(text)).to_contain_text(said)
    assert terms(text)["Finish reason"] == "failed"
    page.unroute(TEXT_STREAM)
    generate(page, STORY)
    expect(text.get_by_text("Finished: 40 tokens, length.")).to_be_visible()
    expect(alert(text)).to_have_count(0)


def test_an_image_that_fails_leaves_no_progress_behind(page: Page, expected: list[str]) -> None:
    expected.append("ERR_FAILED")
    page.route("**/api/v1/images/stream", lambda route: route.abort())
    image = panel(page, "Image")
    fill(image, BOAT)
    button(image, "Draw").click()
    expect(alert(image)).to_contain_text("The server could not be reached.")
    expect(button(image, "Stop")).to_be_disabled()
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_the_health_is_told(page: Page, expected: list[str]) -> None:
    expected.append("Failed to load resource")
    health = page.get_by_role("banner").get_by_role("status")
    expect(health).to_have_text(re.compile("Healthy · .*gemma ready"))
    page.route("**/health", lambda route: route.fulfill(status=503, json={"status": "unhealthy", "reason": "gone"}))
    page.reload()
    expect(health).to_have_text("Unhealthy: gone")
    page.route("**/health", lambda route: route.abort())
    page.reload()
    expect(health).to_contain_text("could not be reached")


def test_a_key_is_asked_for_sent_and_kept_in_the_tab_alone(
    visit: Callable[[str], Page], guarded: Guarded, expected: list[str]
) -> None:
    expected.append("status of 401")
    page = visit(guarded.url)
    key = page.get_by_label("API key", exact=True)
    expect(key).to_be_hidden()
    text = generate(page, STORY)
    expect(alert(text)).to_contain_text("an API key must be sent")
    expect(key).to_be_visible()
    alert(text).get_by_role("link", name="Enter an API key").click()
    expect(key).to_be_focused()
    page.keyboard.type("fictures-wrong")
    page.keyboard.press("Enter")
    generate(page, STORY)
    expect(alert(text)).to_contain_text("this API key is not known")
    key.fill(guarded.key)
    generate(page, STORY)
    expect(text.get_by_text("Finished: 40 tokens, length.")).to_be_visible()
    draw(page, BOAT)
    page.reload()
    generate(page, STORY)
    expect(text.get_by_text("Finished: 40 tokens, length.")).to_be_visible()
    expect(key).to_have_attribute("type", "password")
    other = page.context.new_page()
    other.goto(guarded.url)
    expect(other.get_by_label("API key", exact=True)).to_have_value("")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
