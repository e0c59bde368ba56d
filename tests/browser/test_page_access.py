"""The page by keyboard, on screens of other sizes and colours, and for a screen reader."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browser.page_parts import BOAT, NEEDS_CHROMIUM, STORY, button, draw, field, fill, generate, output, panel

pytestmark = NEEDS_CHROMIUM


@pytest.mark.parametrize("keys", ["Control+Enter", "Meta+Enter"])
def test_keys_start_it_from_any_field(page: Page, keys: str) -> None:
    text, image = panel(page, "Text"), panel(page, "Image")
    fill(text, STORY)
    field(text, "Prompt").press(keys)
    expect(text.get_by_text("Finished: 40 tokens, length.")).to_be_visible()
    assert field(text, "Prompt").input_value() == STORY["Prompt"]
    fill(image, BOAT)
    field(image, "Steps").press(keys)
    expect(panel(page, "Pictures").get_by_role("listitem")).to_have_count(1)


STOPS = """() => [...document.querySelectorAll("a, button, input, select, summary, textarea, [tabindex]")]
    .filter((it) => !it.disabled && it.checkVisibility()).map((it) => it.id || it.textContent)"""
FOCUS = """() => [document.activeElement.id || document.activeElement.textContent,
    getComputedStyle(document.activeElement).outlineStyle]"""


def test_the_tab_key_reaches_everything_in_order_and_shows_where_it_is(page: Page) -> None:
    draw(page, BOAT)
    page.locator("summary").click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
    stops = page.evaluate(STOPS)
    assert {"API key", "api-key", "text-generate", "image-seed", "Download", "Use these settings"} <= set(stops)
    page.locator("h1").click()
    reached = []
    for _ in stops:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUS))
    assert [name for name, _ in reached] == stops
    assert [outline for _, outline in reached] == ["solid"] * len(stops)


def test_the_keyboard_is_enough(page: Page) -> None:
    text, keyboard = panel(page, "Text"), page.keyboard
    field(text, "Prompt").focus()
    keyboard.type("Once")
    keyboard.press("Tab")
    keyboard.type("3500")
    for _ in range(3):
        keyboard.press("Tab")
    expect(button(text, "Generate")).to_be_focused()
    keyboard.press("Enter")
    expect(button(text, "Stop")).to_be_focused()
    expect(output(page)).not_to_be_empty()
    keyboard.press("Enter")
    expect(text.get_by_role("status")).to_have_text("Stopped.")
    expect(button(text, "Generate")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_the_screen(page: Page, tmp_path: Path, width: int, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    text = generate(page, STORY | {"Max tokens": "200"})
    draw(page, BOAT | {"Prompt": "a boat" + "t" * 100})
    page.locator("summary").click()
    expect(text.get_by_text("Finished: ")).to_be_visible()
    page.screenshot(path=tmp_path / f"page-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = max(map(int, re.findall(r"\d+", colour)))
    assert (lightness > 200) if scheme == "light" else (lightness < 50)


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    draw(page, BOAT)
    page.locator("summary").click()
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    tree = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"] and "name" in node]
    texts = ["Prompt", "Prompt", "Negative prompt", "API key", "Seed"]
    numbers = ["Max tokens", "Temperature", "Top p", "Width", "Height", "Steps", "Guidance"]
    assert sorted(name for role, name in tree if role == "textbox") == sorted(texts)
    assert sorted(name for role, name in tree if role == "spinbutton") == sorted(numbers)
    assert [name for role, name in tree if role == "combobox"] == ["Size"]
    assert len(texts + numbers) + 1 == page.locator("input, select, textarea").count()
    assert all(name for role, name in tree if role in ("button", "link", "image", "progressbar"))
    parts = ["Generated text", "Image", "Pictures", "Server", "Text"]
    assert sorted(name for role, name in tree if role in ("region", "navigation")) == parts
    assert [role for role, _ in tree if role in ("banner", "main")] == ["banner", "main"]
    assert [name for role, name in tree if role == "heading"] == [
        "Fictures AI Server on Triton",
        "Text",
        "Image",
        "Pictures",
    ]
    assert page.get_by_role("heading", level=1).count() == 1
    expect(page.locator("html")).to_have_attribute("lang", "en")
