"""What the tests of the page share: its parts as a person finds them, and what a person does with them.

That the page asks nobody but its server and breaks no policy, `visit` tests each time.
"""

import json
import shutil
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

NEEDS_CHROMIUM = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here: apt-get install chromium")
STORY = {"Prompt": "Once upon a time", "Max tokens": "40", "Temperature": "0"}
BOAT = {"Prompt": "a boat", "Width": "256", "Height": "256", "Steps": "6"}
TEXT_STREAM = "**/api/v1/text/stream"


def panel(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def field(panel: Locator, label: str) -> Locator:
    return panel.get_by_label(label, exact=True)


def button(panel: Locator, name: str) -> Locator:
    return panel.get_by_role("button", name=name)


def fill(panel: Locator, settings: dict[str, str]) -> None:
    for label, value in settings.items():
        field(panel, label).fill(value)


def output(page: Page) -> Locator:
    return page.get_by_role("region", name="Generated text")


def alert(panel: Locator) -> Locator:
    return panel.get_by_role("alert")


def terms(place: Locator) -> dict[str, str]:
    """What a description list says."""
    return dict(zip(place.locator("dt").all_inner_texts(), place.locator("dd").all_inner_texts(), strict=True))


def generate(page: Page, settings: dict[str, str]) -> Locator:
    text = panel(page, "Text")
    fill(text, settings)
    button(text, "Generate").click()
    return text


def draw(page: Page, settings: dict[str, str]) -> Locator:
    """Draw and return the picture, which is then the first of all."""
    image, pictures = panel(page, "Image"), panel(page, "Pictures").get_by_role("listitem")
    fill(image, settings)
    before = pictures.count()
    button(image, "Draw").click()
    expect(pictures).to_have_count(before + 1)
    return pictures.first


def stream(route: Route, *events: dict[str, Any]) -> None:
    """Answer in the server's place."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    route.fulfill(content_type="text/event-stream", body=body)
