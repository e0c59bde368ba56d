"""`./scripts/benchmark text` measures real servers and reports them side by side; the speeds are not looked at."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian: apt install wrk)")
def test_a_short_run_reports_every_contender(tmp_path: Path) -> None:
    report, numbers, page = tmp_path / "report.md", tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text("<!-- text in short --><!-- end of text in short -->\n")
    command = [ROOT / "scripts/benchmark", "text", "--rounds", "1", "--seconds", "2", "--streams", "2"]
    command += ["--tokens", "16", "--not-streamed", "2", "--floor", "--backend", f"other={ROOT / 'backends/vllm'}"]
    command += ["--output", report, "--json", numbers, "--page", page]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    found = {result["contender"]: result for result in json.loads(numbers.read_text())["results"]}
    for name in ("vllm serve", "Triton, HTTP", "Triton, gRPC", "gateway", "other, Triton, HTTP", "other, Triton, gRPC"):
        (sample,) = found.pop(f"{name}, not streamed")["rounds"]
        assert sample["responses_per_request"] == 1
        assert sample["gap_median"] is None
        assert sample["first_response_median"] > 0
        assert sample["tokens_per_second"] > 0
    assert found.keys() == {
        "vllm serve",
        "Triton, HTTP",
        "Triton, gRPC",
        "gateway",
        "other, Triton, HTTP",
        "other, Triton, gRPC",
        "Triton, HTTP, no engine",
    }
    (floor,) = found.pop("Triton, HTTP, no engine")["rounds"]
    assert floor["responses_per_request"] == pytest.approx(16, rel=0.05)
    for result in found.values():
        (sample,) = result["rounds"]
        assert sample["tokens_per_second"] == pytest.approx(16 * sample["requests_per_second"])
        assert 1 < sample["responses_per_request"] <= 18
        assert 0 < sample["first_response_median"] <= sample["first_response_p99"]
        assert 0 < sample["inter_token_median"] <= sample["inter_token_p99"]
        assert sample["engine_cpu_per_1000_tokens"] > 0
        assert sample["other_cpu_per_1000_tokens"] > 0
        assert sample["memory"] > 1e8
    assert "| Triton, gRPC: tokens/s | " in page.read_text()
    text = report.read_text()
    assert "| vllm serve |" in text
    assert "| tokens/s | Triton, gRPC | 2 |" in text
    assert "2 at the same time, prompts of 22 tokens, as ratios to vllm serve" in text
    assert not list((ROOT / ".run").glob("benchmark-*.log")), "a server's log is left behind by a failed one only"
