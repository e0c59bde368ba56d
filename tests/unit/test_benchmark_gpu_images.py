"""The benchmark of real sizes, at the tiny one: it runs here as it does on a GPU, except for CUDA graphs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "benchmark_gpu.images", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_everything_is_measured_and_told(tmp_path: Path) -> None:
    found, report = tmp_path / "found.json", tmp_path / "report.md"
    work = ["--size", "tiny", "--dtype", "float32", "--side", "64", "--steps", "3", "--counts", "1,2", "--repeats", "1"]
    ended = run(*work, "--no-compile", "--json", str(found), "--output", str(report))
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(found.read_text())["rows"]
    assert not [row for row in rows if row["error"]]
    images = {(row["name"], row["images"]): row for row in rows if row["what"] == "image"}
    alone, two = (images["engine's model", count] for count in (1, 2))
    assert alone["psnr"] is None  # the plain pipeline's picture, pixel for pixel
    assert two["psnr"] is None or two["psnr"] > 45
    assert images["pipeline, without SDPA", 1]["psnr"] is None or images["pipeline, without SDPA", 1]["psnr"] > 45
    calls = {(row["name"], row["images"]) for row in rows if row["what"] == "unet"}
    ways = {"without SDPA", "as diffusers has it", "+ channels last", "+ fused projections"}
    assert calls == {(way, count) for way in ways for count in (1, 2)}
    assert all(second > 0 for row in rows for second in row["seconds"])
    cut = images["engine's model, no guidance in the last 40%", 1]
    assert cut["psnr"] is not None  # another picture, then
    assert {row["name"] for row in rows if row["what"] == "vae"} == ways - {"without SDPA"}
    text = report.read_text()
    assert "In short, 64x64, 3 steps" in text
    assert "Whole images, 64x64, 3 steps" in text
    assert "floor: operations" in text


def test_a_model_of_ones_own_is_measured(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    work = ["--size", str(ROOT / "models/tiny-sdxl"), "--dtype", "float32", "--side", "64", "--steps", "2"]
    ended = run(*work, "--counts", "1", "--repeats", "1", "--only-engine", "--no-compile", "--json", str(found))
    assert ended.returncode == 0, ended.stderr
    assert "tiny-sdxl (0.00 billion UNet weights) in float32" in " ".join(ended.stdout.split())
    assert {row["what"] for row in json.loads(found.read_text())["rows"]} == {"unet", "image", "vae"}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--size", "huge"], 1, "--size huge: must be one of base, tiny, or a folder with a model"),
        (["--counts", "1,none"], 2, "1,none: must be whole numbers from 1 to 1024"),
        (["--counts", "0"], 2, "0: must be whole numbers from 1 to 1024"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], code: int, told: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == code
    assert told in " ".join(ended.stderr.replace("│", " ").split())


def test_how_alike_two_pictures_are() -> None:
    sys.path[:0] = [str(ROOT / "model_repository/sdxl_stream/1")]
    from benchmark_gpu.images.measurement import psnr

    black, grey = Image.new("RGB", (8, 8), 0), Image.new("RGB", (8, 8), (1, 1, 1))
    assert psnr(black, black) is None
    assert psnr(black, grey) == pytest.approx(20 * math.log10(255))
