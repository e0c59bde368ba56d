"""The text benchmark's arithmetic: what tools print, ratios within a round, and the same settings for both servers."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.errors import BenchmarkError
from benchmarks.text import tables, tools, usage, vllm_serve
from benchmarks.text.comparison import Result, Sample, percentile
from benchmarks.text.contenders import Work, openai, text_of, triton_grpc, triton_http, unpaced

WORK = Work("Once", 64)
SAMPLE = Sample(128.0, 100.0, 64.0, 0.1, 0.2, 0.01, 0.02, 0.5, 1.0, 1e9)


def test_all_ask_for_the_same_tokens() -> None:
    sampling = {"max_tokens": 64, "temperature": 0, "ignore_eos": True}
    assert openai("x", "h:1", None).request(WORK) == sampling | {"model": "gemma", "stream": True, "prompt": "Once"}
    assert triton_http("h:1", None).request(WORK) == sampling | {"stream": True, "text_input": "Once"}
    tensors = unpaced(triton_grpc("h:1", None)).tensors(WORK)
    assert json.loads(tensors["sampling_parameters"][0]) == sampling | {"stream_interval_ms": 0}
    assert (tensors["text_input"], tensors["stream"]) == (["Once"], [True])


def test_in_one_piece_triton_has_another_endpoint() -> None:
    whole = triton_http("h:1", None).whole()
    assert whole.url == "http://h:1/v2/models/gemma/generate"
    assert whole.request(WORK)["stream"] is False
    assert not whole.is_streaming
    assert openai("x", "h:1", None).whole().path == "v1/completions"


def test_the_text_is_read_out_of_either_answer() -> None:
    assert text_of({"choices": [{"text": "a"}]}) == "a"
    assert text_of({"model_name": "gemma", "text_output": "b"}) == "b"


def test_wrks_counts_are_read_and_none_is_an_error() -> None:
    line = 'counted {"requests": 3, "seconds": 2.500000, "failures": 0, "events": 192, "missing": 9}'
    assert tools.counted(f"Running 2s test\n{line}\n") == json.loads(line.removeprefix("counted "))
    with pytest.raises(BenchmarkError, match="wrk printed no counts: unable to connect"):
        tools.counted("unable to connect")


def profiled(start: int, *moments: int, last: str = "data: {}") -> dict[str, Any]:
    """A request of perf_analyzer's profile, times in milliseconds."""
    outputs = [{"response": "data: {}"}] * (len(moments) - 1) + [{"response": last}]
    return {
        "timestamp": start * 10**6,
        "response_timestamps": [moment * 10**6 for moment in moments],
        "response_outputs": outputs,
    }


def test_times_count_from_the_request_and_the_done_mark_is_no_response() -> None:
    found = tools.timings_of([profiled(100, 150, 170, 171, last="data: [DONE]\n\n"), profiled(100, 130, 160)])
    assert tools.timings_of([profiled(0, 10, 20, 20, last="")]).gaps == pytest.approx([0.01])
    assert found.first == pytest.approx([0.05, 0.03])
    assert found.gaps == pytest.approx([0.02, 0.03])


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([7], 99) == 7


def test_ratios_are_those_of_a_round_and_what_was_not_measured_has_none() -> None:
    theirs = [SAMPLE, replace(SAMPLE, tokens_per_second=256.0)]
    ours = [replace(SAMPLE, gap_p99=None), replace(SAMPLE, tokens_per_second=512.0, gap_p99=None)]
    result = Result("Triton", 8, ours, theirs)
    assert result.ratios("tokens_per_second") == [1.0, 2.0]
    assert result.ratios("gap_p99") == []
    absolute, relative = tables.tables([Result("vllm serve", 8, theirs, theirs), result], "vllm serve", WORK, 2)
    assert [row[0] for row in absolute.rows] == ["vllm serve", "Triton"]
    assert relative.rows == [
        ["Triton", "1.50 (1.00 to 2.00)", "1.00 (1.00 to 1.00)", "1.00 (1.00 to 1.00)", "", "1.00 (1.00 to 1.00)"]
    ]
    (found,) = tables.as_json([result], "here", WORK)["results"]
    assert found["ratios"]["tokens_per_second"] == 1.5
    assert "gap_p99" not in found["ratios"]
    assert len(found["rounds"]) == 2


def test_vllm_serve_gets_the_engines_own_arguments() -> None:
    arguments = {"model": "/m", "dtype": "float32", "max_num_seqs": 256, "enforce_eager": True, "enable_lora": False}
    options = vllm_serve.options(arguments | {"limits": {"image": 0}, "revision": None})
    assert options[:6] == ["/m", "--dtype", "float32", "--max-num-seqs", "256", "--enforce-eager"]
    assert options[6:] == ["--no-enable-lora", "--limits", '{"image": 0}']


def test_processor_time_and_memory_of_a_tree() -> None:
    before = usage.of_tree(os.getpid())
    while usage.of_tree(os.getpid()).other_seconds < before.other_seconds + 0.02:
        sum(range(100_000))
    used = usage.of_tree(os.getpid()).since(before)
    assert used.other_seconds >= 0.02
    assert used.engine_seconds == 0
    assert used.memory > 1_000_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--streams", "1,many"], "1,many: must be whole numbers from 1 to 1024"),
        (["--streams", "0"], "0: must be whole numbers"),
        (["--url", "other"], "other: must be NAME=HOST:PORT"),
        (["--output", "/nowhere/report.md"], "/nowhere/report.md: no such folder"),
        (["--rounds", "0"], "Invalid value for '--rounds'"),
    ],
)
def test_a_wrong_option_is_named(options: list[str], words: str) -> None:
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["text", *options])
    assert run.exit_code == 2
    assert words in " ".join(run.output.split())
