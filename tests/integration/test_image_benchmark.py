"""`./scripts/benchmark images` measures every way to an image, side by side; the speeds are not looked at."""

import json
import subprocess
from pathlib import Path

from benchmarks.images.command import PATHS
from benchmarks.images.under_perf_analyzer import UnderPerfAnalyzer
from conftest import ROOT


def test_a_short_run_reports_every_way_to_an_image(tmp_path: Path) -> None:
    report, numbers, page = tmp_path / "report.md", tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text("<!-- images in short --><!-- end of images in short -->\n")
    command = [ROOT / "scripts/benchmark", "images", "--rounds", "1", "--seconds", "1", "--steps", "4"]
    command += ["--concurrency", "1,2", "--arrival-seconds", "4", "--perf-analyzer"]
    command += ["--output", report, "--json", numbers, "--page", page, "--plots", tmp_path / "plots"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    found = {(result["system"], result["load"]): result for result in json.loads(numbers.read_text())["results"]}
    for load in ("1", "2"):
        for path in (*PATHS, UnderPerfAnalyzer.name):
            (sample,) = found[path, load]["rounds"]
            assert sample["images_per_second"] > 0
            assert 0 < sample["latency_median"] <= sample["latency_p95"] <= sample["latency_p99"]
            if path == "plain pipeline":
                assert sample["images_per_step"] is None
            else:
                assert 1 <= sample["images_per_step"] <= int(load)
    for path in PATHS:
        (sample,) = found[path, "the plain pipeline's capacity"]["rounds"]
        assert sample["errors"] == []
        assert sample["requests"] > 0
        assert sample["images_per_second"] > 0
        assert (sample["images_per_step"] is None) == (path == "plain pipeline")
    for system in ("sdxl", "whole-request batching"):
        assert found[system, "sdxl's capacity"]["rounds"][0]["errors"] == []
    text = report.read_text()
    assert "2 at the same time, 256x256, 4 steps, as ratios to plain pipeline" in text
    assert "Arrivals at 70% of the plain pipeline's capacity" in text
    assert "arrivals at 70% of sdxl's capacity" in text
    assert "| sdxl, gRPC | " in page.read_text()
    drawn = {"images.png", "median.png", "p99.png", "occupancy.png"}
    assert drawn == {file.name for file in (tmp_path / "plots").iterdir()}
    assert not list((ROOT / ".run").glob("benchmark-*.log")), "a server's log is left behind by a failed one only"
