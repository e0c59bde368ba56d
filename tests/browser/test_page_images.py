"""Images on the page, as a person has them drawn."""

import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Locator, Page, expect

from browser.page_parts import BOAT, NEEDS_CHROMIUM, button, draw, field, fill, panel, terms
from conftest import Server, wait_for

pytestmark = NEEDS_CHROMIUM


def values(panel: Locator, labels: dict[str, str]) -> dict[str, str]:
    return {label: field(panel, label).input_value() for label in labels}


def download(page: Page, picture: Locator) -> Path:
    with page.expect_download() as coming:
        picture.get_by_role("link", name="Download").click()
    return coming.value.path()


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
    expect(field(image, "Size")).to_have_value("256x256")
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
