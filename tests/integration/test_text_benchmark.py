"""`./scripts/benchmark text` measures real servers and reports them side by side; the speeds are not looked at."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.mark.timeout(450)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian: apt install wrk)")
def test_a_short_run_reports_every_contender(tmp_path: Path) -> None:
    report, numbers, page = tmp_path / "report.md", tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text("<!-- text in short --><!-- end of text in short -->\n")
    command = [ROOT / "scripts/benchmark", "text", "--rounds", "1", "--seconds", "2", "--streams", "2"]
    command += ["--tokens", "16", "--not-streamed", "2", "--floor", "--engine"]
    command += ["--backend", f"other={ROOT / 'backends/vllm'}"]
    command += ["--output", report, "--json", numbers, "--page", page]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stderr
    found = {result["contender"]: result for result in json.loads(numbers.read_text())["results"]}
    servers = ("vllm serve", "Triton, HTTP", "Triton, gRPC", "gateway", "other, Triton, HTTP", "other, Triton, gRPC")
    for name in (*servers, "engine in process"):
        (sample,) = found.pop(f"{name}, not streamed")["rounds"]
        assert sample["responses_per_request"] == 1
        assert sample["gap_median"] is None
        assert sample["first_response_median"] > 0
        assert sample["tokens_per_second"] > 0
    floors = ("Triton, HTTP, no engine", "Triton, HTTP, no engine, paced")
    assert found.keys() == {*servers, "engine in process", *floors}
    (floor,), (paced,) = (found.pop(name)["rounds"] for name in floors)
    assert floor["responses_per_request"] == pytest.approx(16, rel=0.05)
    (ours,) = found["Triton, HTTP"]["rounds"]
    assert paced["responses_per_request"] == pytest.approx(round(ours["responses_per_request"]), rel=0.05)
    assert paced["gap_median"] == pytest.approx(ours["gap_median"], rel=0.3)
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
    assert "**Processor time outside the engine and its parts, s for 1,000 tokens**" in text
    assert "Of what the engine in process does, tokens/s: vllm serve " in text
    assert "2 at the same time, prompts of 22 tokens, as ratios to vllm serve" in text
    assert not list((ROOT / ".run").glob("benchmark-*.log")), "a server's log is left behind by a failed one only"
