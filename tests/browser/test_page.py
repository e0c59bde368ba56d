"""The page, as a person uses it. That it asks nobody but its server and breaks no policy, `visit` tests each time."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, Route, expect

from browser.conftest import Guarded
from conftest import Server, wait_for

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here: apt-get install chromium")

STORY = {"Prompt": "Once upon a time", "Max tokens": "40", "Temperature": "0"}
ENDLESS = STORY | {"Max tokens": "3500"}
BOAT = {"Prompt": "a boat", "Width": "256", "Height": "256", "Steps": "6"}
HALF = {"text": "Once", "tokens_used": 1, "done": False}
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


def values(panel: Locator, labels: dict[str, str]) -> dict[str, str]:
    return {label: field(panel, label).input_value() for label in labels}


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


def download(page: Page, picture: Locator) -> Path:
    with page.expect_download() as coming:
        picture.get_by_role("link", name="Download").click()
    return coming.value.path()


def stream(route: Route, *events: dict[str, Any]) -> None:
    """Answer in the server's place."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    route.fulfill(content_type="text/event-stream", body=body)


def generated(server: Server) -> float:
    """Tokens that the gateway has seen generated for requests that have ended."""
    lines = httpx.get(f"{server.api_url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("fictures_gateway_generated_tokens_total "))


# Texts


def test_a_text_grows_as_it_is_generated(page: Page, server: Server) -> None:
    text = generate(page, STORY | {"Max tokens": "400"})
    came = [""]

    def finished() -> bool:
        came.append(output(page).text_content() or "")
        return text.get_by_text("Finished: 400 tokens, length.").is_visible()

    wait_for(finished, 60, "finished")
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


# Images


OBSERVE = """() => {
    const [text, image] = ["image-progress-text", "image-preview"].map((id) => document.getElementById(id));
    const seen = (window.seen = { steps: [], pictures: [] });
    const steps = (records) => seen.steps.push(...records.flatMap((it) => [...it.addedNodes].map((node) => node.data)));
    new MutationObserver(steps).observe(text, { childList: true });
    const pictures = () => image.src && seen.pictures.push(image.src.slice(0, 15));
    new MutationObserver(pictures).observe(image, { attributeFilter: ["src"] });
}"""


def test_an_image_is_drawn_step_by_step_and_becomes_a_picture_with_its_parameters(page: Page) -> None:
    page.evaluate(OBSERVE)
    picture = draw(page, BOAT | {"Steps": "16", "Negative prompt": "people", "Guidance": "5", "Seed": "42"})
    seen = page.evaluate("window.seen")
    assert list(dict.fromkeys(seen["steps"])) == [
        "Waiting for the first step…",
        *(f"Step {number}/16" for number in range(1, 17)),
    ]
    assert seen["pictures"][0] == "data:image/jpeg"
    assert seen["pictures"][-1].startswith("blob:http")
    shown = picture.get_by_role("img", name="a boat")
    expect(shown).to_have_js_property("naturalWidth", 256)
    assert picture.get_by_role("paragraph").inner_text() == "a boat"
    told = terms(picture)
    assert re.fullmatch(r"\d+\.\d s", told.pop("Time"))
    assert told == {
        "Negative prompt": "people",
        "Size": "256 \N{MULTIPLICATION SIGN} 256",
        "Steps": "16",
        "Guidance": "5",
        "Seed": "42",
    }
    assert "seed 42" in panel(page, "Image").get_by_role("status").inner_text()


def test_an_image_that_is_stopped_leaves_no_picture_and_frees_the_engine(page: Page, server: Server) -> None:
    image = panel(page, "Image")
    fill(image, BOAT | {"Width": "512", "Height": "512", "Steps": "100"})
    button(image, "Draw").click()
    expect(image.get_by_text(re.compile(r"Step \d+/100"))).to_be_visible()
    button(image, "Stop").click()
    expect(image.get_by_role("status")).to_have_text("Stopped.")
    wait_for(lambda: server.metric("fictures_image_requests_running") == 0, 2, "the engine is free")
    expect(panel(page, "Pictures").get_by_role("listitem")).to_have_count(0)


def test_a_picture_can_be_downloaded(page: Page) -> None:
    picture = draw(page, BOAT)
    with page.expect_download() as coming:
        picture.get_by_role("link", name="Download").click()
    assert coming.value.suggested_filename == f"fictures-{terms(picture)['Seed']}.png"
    image = Image.open(coming.value.path())
    assert (image.format, image.size) == ("PNG", (256, 256))


@pytest.mark.parametrize("seed", ["", "9223372036854775807"], ids=["any seed", "the largest seed"])
def test_a_pictures_settings_draw_it_again(page: Page, seed: str) -> None:
    image, pictures = panel(page, "Image"), panel(page, "Pictures").get_by_role("listitem")
    settings = BOAT | {"Negative prompt": "people", "Guidance": "5.5", "Seed": seed}
    first = download(page, draw(page, settings))
    settings["Seed"] = terms(pictures.first)["Seed"]
    assert settings["Seed"] == seed or not seed
    other = {"Prompt": "a sea", "Negative prompt": "", "Width": "512", "Height": "512", "Steps": "3", "Guidance": "9"}
    draw(page, other | {"Seed": "1"})
    assert [terms(picture)["Seed"] for picture in pictures.all()] == ["1", settings["Seed"]], "the newest is the first"
    button(pictures.last, "Use these settings").click()
    assert values(image, settings) == settings
    expect(field(image, "Size")).to_have_value("")
    expect(field(image, "Prompt")).to_be_focused()
    again = download(page, draw(page, {}))
    difference = ImageChops.difference(Image.open(first), Image.open(again))
    assert max(most for _, most in difference.getextrema()) <= 1, "the same within floating point"


def test_a_size_can_be_chosen_or_typed(page: Page) -> None:
    image = panel(page, "Image")
    field(image, "Size").select_option("1344 \N{MULTIPLICATION SIGN} 768")
    assert values(image, {"Width": "", "Height": ""}) == {"Width": "1344", "Height": "768"}
    fill(image, {"Width": "1152", "Height": "896"})
    expect(field(image, "Size").locator("option:checked")).to_have_text("1152 \N{MULTIPLICATION SIGN} 896")
    fill(image, {"Height": "888"})
    expect(field(image, "Size").locator("option:checked")).to_have_text("Other")


# Failures


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


# Keyboard, screen and screen reader


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
