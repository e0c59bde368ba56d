"""The tiny Stable Diffusion XL that comes with the project does what its card says."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from train_tiny.images.evaluation import Score, draw, held_out_scenes
from train_tiny.images.reading import Reading, read_pictures

FOLDER = Path(__file__).resolve().parents[2] / "models/tiny-sdxl"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(FOLDER, dtype=torch.float32, use_safetensors=True)


def test_the_words_decide_the_picture_also_in_combinations_never_seen(pipeline: StableDiffusionXLPipeline) -> None:
    scenes, captions = (list(column) for column in zip(*held_out_scenes(20), strict=True))
    readings = read_pictures(draw(pipeline, captions, steps=20, batch=4))
    found = Score.of(readings, scenes)
    assert found.sky >= 0.85
    assert found.colour >= 0.85
    assert found.kind >= 0.8
    assert Score.of(readings, scenes[1:] + scenes[:1]).all_three <= 0.1


@pytest.mark.parametrize("size", [(512, 256), (320, 384)])
def test_other_sizes_show_what_was_asked_for(pipeline: StableDiffusionXLPipeline, size: tuple[int, int]) -> None:
    [picture] = draw(pipeline, ["a pink rabbit in a meadow under a green sky"], steps=20, size=size)
    assert picture.size == size
    assert read_pictures([picture]) == [Reading("green", "pink", "rabbit")]


def test_a_negative_prompt_keeps_away_what_it_names(pipeline: StableDiffusionXLPipeline) -> None:
    asked, kept = ["a blue car"] * 4, {"colour": "blue", "kind": "car"}
    without = read_pictures(draw(pipeline, asked, steps=20))
    refused = read_pictures(draw(pipeline, asked, steps=20, negative_prompt="dark sky"))
    assert "dark" in {reading.sky for reading in without}
    assert "dark" not in {reading.sky for reading in refused}
    assert all(reading == Reading(reading.sky, **kept) for reading in without + refused)


def test_files_are_small_and_the_card_tells_what_is_measured() -> None:
    sizes = {path: path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    weights = [size for path, size in sizes.items() if path.suffix == ".safetensors"]
    assert sum(weights) < 10_500_000
    assert sum(sizes.values()) < 11_000_000
    found = json.loads((FOLDER / "report.json").read_text())["examination"]["own_words"]
    row = " | ".join(f"{found[part]:.1%}" for part in ("sky", "colour", "kind", "all_three"))
    assert f"| its caption's | {row} |" in (FOLDER / "README.md").read_text()
