"""The text benchmark's arithmetic: what tools print, ratios within a round, and the same settings for both servers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server
from typer.testing import CliRunner

from benchmarks import load_tools, page, plots
from benchmarks.__main__ import app
from benchmarks.bystanders import Bystanders
from benchmarks.errors import BenchmarkError
from benchmarks.report import Report, Table, percentile
from benchmarks.text import comparison, counters, in_process, tables, targets, tools, usage, vllm_serve
from benchmarks.text.comparison import Effort, Findings, Result, Sample, compare
from benchmarks.text.contenders import (
    Contender,
    Work,
    openai,
    text_of,
    triton_grpc,
    triton_http,
    unpaced,
    without_engine_paced,
    without_server,
)
from benchmarks.text.counters import Counters
from benchmarks.text.in_process import EngineInProcess, Load
from launcher.layout import ROOT

WORK = Work("Once", 1, 64)
SAMPLE = Sample(2.0, 128.0, 1.5, 100.0, 64.0, 0.1, 0.2, 0.01, 0.02, 0.003, 0.004, 0.5, 1.0, 1.5, 1e9)


def test_all_ask_for_the_same_tokens() -> None:
    sampling = {"max_tokens": 64, "temperature": 0, "ignore_eos": True}
    assert openai("x", "h:1", None).request(WORK) == sampling | {
        "model": "gemma",
        "stream": True,
        "prompt": "0000000. Once",
    }
    assert triton_http("h:1", None).request(WORK) == sampling | {"stream": True, "text_input": "0000000. Once"}
    tensors = unpaced(triton_grpc("h:1", None)).tensors(WORK)
    assert json.loads(tensors["sampling_parameters"][0]) == sampling | {"stream_interval_ms": 0}
    assert (tensors["text_input"], tensors["stream"]) == (["0000000. Once"], [True])
    assert unpaced(openai("x", "h:1", None)).request(WORK)["stream_interval_ms"] == 0


def test_in_one_piece_triton_has_another_endpoint() -> None:
    whole = triton_http("h:1", None).whole()
    assert whole.url == "http://h:1/v2/models/gemma/generate"
    assert (whole.request(WORK)["stream"], whole.request(WORK)["exclude_input_in_output"]) == (False, True)
    tensors = triton_grpc("h:1", None).whole().tensors(WORK)
    assert (tensors["stream"], tensors["exclude_input_in_output"]) == ([False], [True])
    assert "exclude" not in tensors["sampling_parameters"][0]
    assert "exclude_input_in_output" not in openai("x", "h:1", None).whole().request(WORK)
    assert not whole.is_streaming
    assert openai("x", "h:1", None).whole().path == "v1/completions"


def test_the_text_is_read_out_of_either_answer() -> None:
    assert text_of({"choices": [{"text": "a"}]}) == "a"
    assert text_of({"model_name": "gemma", "text_output": "b"}) == "b"


def test_wrks_counts_are_read_and_none_is_an_error() -> None:
    line = 'counted {"requests": 3, "seconds": 2.500000, "failures": 0, "events": 192}'
    assert tools.counted(f"Running 2s test\n{line}\n") == {"requests": 3, "seconds": 2.5, "failures": 0, "events": 192}
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


def test_the_rate_is_that_of_whole_waves_between_the_first_and_the_last() -> None:
    waves = [profiled(0, 500), profiled(0, 510), profiled(500, 1500), profiled(510, 1510)]
    waves += [profiled(1500, 2500), profiled(1510, 2510), profiled(2500, 2700), profiled(2510, 2710)]
    found = tools.throughput_of([*waves, profiled(2700, 2701)], 2)
    assert found.requests_per_second == pytest.approx(4 / 2)
    assert (found.requests, found.responses_per_request) == (9, 1)
    with pytest.raises(BenchmarkError, match="5 requests of 2 streams: too few"):
        tools.throughput_of(waves[:5], 2)


ANSWER = b"data: {}\n\n" * 2 + b'data: {"finish_reason":"length"}\n\n'
ANSWER_TAKES = 0.05  # seconds


class _Streaming(BaseHTTPRequestHandler):
    """Answers every request with the same three events, after the same time."""

    protocol_version = "HTTP/1.1"
    prompts: list[str] = []

    def do_POST(self) -> None:
        self.prompts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"])
        threading.Event().wait(ANSWER_TAKES)
        self.send_response(200 if self.path == "/v1/completions" else 500)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def streaming() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Streaming) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_wrks_rate_does_not_depend_on_when_the_load_ends() -> None:
    contender = openai("x", "h:1", None)
    three_waves = {"requests": 29, "seconds": 1.15, "failures": 0, "events": 87, "wave_seconds": 0.6}
    found = tools.throughput_counted(contender, three_waves, 8)  # a wave each 0.3 s, and half a wave at the end
    assert found.requests_per_second == pytest.approx(8 / 0.3)
    assert found.requests == pytest.approx(1.15 * 8 / 0.3)
    assert found.responses_per_request == 3
    with pytest.raises(BenchmarkError, match=r"x: 23 answers in 1.1 s: give it more --seconds"):
        tools.throughput_counted(contender, three_waves | {"requests": 23, "seconds": 1.1}, 8)


FAILED = r"x: (\d+) of \1 requests failed \(connect 0, read 0, write 0, timeout 0; "


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian: apt install wrk)")
def test_wrk_counts_what_a_server_sends(streaming: str) -> None:
    _Streaming.prompts.clear()
    found = tools.load(openai("x", streaming, None), WORK, 2, 2)()
    assert found.requests_per_second > 0
    assert found.responses_per_request == 3
    assert len(set(_Streaming.prompts)) == len(_Streaming.prompts)
    assert all(prompt.endswith(". Once") and len(prompt) == len(WORK.prompt) for prompt in _Streaming.prompts)
    failing = replace(openai("x", streaming, None), path="v1/nothing")
    with pytest.raises(BenchmarkError, match=rf"{FAILED}status 500, body ends with data"):
        tools.load(failing, WORK, 2, 1)()


def test_a_load_that_is_too_short_is_made_again_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[float]()

    def load(_contender: Contender, _work: Work, _streams: int, seconds: float) -> Callable[[], tools.Throughput]:
        tried.append(seconds)
        if seconds < 8:
            few = {"requests": 23, "seconds": seconds, "failures": 0, "events": 69, "wave_seconds": 0.6}
            return lambda: tools.throughput_counted(openai("x", "h:1", None), few, 8)
        return lambda: tools.Throughput(8, 3, 64, 64)

    monkeypatch.setattr(tools, "load", load)
    monkeypatch.setattr(tools, "timings", lambda *_: tools.Timings([0.1], [0.01], [0.5], 8))
    monkeypatch.setattr(comparison, "_SETTLING", 0.0)
    found = comparison.measure(openai("x", "h:1", None), [None], WORK, 8, 3)
    assert tried == [3, 6, 12]
    assert found.requests_per_second == 8


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian: apt install wrk)")
def test_an_answer_that_is_cut_off_has_failed(streaming: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ANSWER", b"data: {}\n\n" * 3)
    contender = openai("x", streaming, None)
    with pytest.raises(BenchmarkError, match=rf"{FAILED}status 200, body ends with data: {{}} data"):
        tools.load(contender, WORK, 2, 1)()
    assert tools.load(replace(contender, tells_finish=False), WORK, 2, 2)().responses_per_request == 3


def test_times_count_from_the_request_and_the_done_mark_is_no_response() -> None:
    found = tools.timings_of([profiled(100, 150, 170, 171, last="data: [DONE]\n\n"), profiled(100, 130, 160)])
    assert tools.timings_of([profiled(0, 10, 20, 20, last="")]).gaps == pytest.approx([0.01])
    assert found.first == pytest.approx([0.05, 0.03])
    assert found.gaps == pytest.approx([0.02, 0.03])
    assert found.spans == pytest.approx([0.02, 0.03])


def test_a_profile_that_is_cut_off_is_measured_again_but_not_for_ever(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    attempts, said = [], list[str]()

    def attempt(good_at: int) -> list[dict[str, Any]]:
        attempts.append(good_at)
        text = json.dumps({"experiments": [{"requests": [profiled(0, 1)]}]})
        profile.write_text(text if len(attempts) == good_at else text[:40])
        return load_tools.read_profile("Triton, gRPC", profile)

    assert load_tools.persistently(lambda: attempt(3), said.append) == [profiled(0, 1)]
    assert len(attempts) == 3
    assert said[0].startswith("Triton, gRPC: perf_analyzer's profile cannot be read: ")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        load_tools.persistently(lambda: attempt(0), said.append)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 99.9)] == [100, 190, 198, 200]
    assert percentile([7.0], 99) == 7


def test_ratios_are_those_of_a_round_and_what_was_not_measured_has_none() -> None:
    theirs = [SAMPLE, replace(SAMPLE, tokens_per_second=256.0)]
    ours = [replace(SAMPLE, gap_p99=None), replace(SAMPLE, tokens_per_second=512.0, gap_p99=None)]
    result = Result("Triton", 8, ours, theirs)
    assert result.ratios("tokens_per_second") == [1.0, 2.0]
    assert result.ratios("gap_p99") == []
    absolute, relative = tables.tables([Result("vllm serve", 8, theirs, theirs), result], "vllm serve", WORK, 2)
    assert [row[0] for row in absolute.rows] == ["vllm serve", "Triton"]
    same = "1.00 (1.00 to 1.00)"
    times = ["TTFT", "TTFT p99", "ITL", "ITL p99"]
    assert relative.columns[1:] == ["tokens/s", "responses", *times, "other CPU", "all CPU", "memory"]
    assert relative.rows == [["Triton", "1.50 (1.00 to 2.00)", *[same] * 8]]
    assert relative.notes == ["Meanwhile what other programs took is unknown."]
    assert "TTFT p99, ms" in absolute.columns
    assert absolute.title == "8 at the same time, prompts of 1 tokens, answers of 64; medians of 2 rounds"
    (found,) = tables.as_json(Findings([result]), "here", 64)["results"]
    assert found["ratios"]["tokens_per_second"] == 1.5
    assert "gap_p99" not in found["ratios"]
    assert len(found["rounds"]) == 2


def test_contenders_take_turns_and_grpc_is_compared_with_the_same_load(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = list[tuple[str, int]]()

    def measured(contender: Contender, _servers: Any, _work: Work, streams: int, _seconds: float) -> Sample:
        turns.append((contender.name, streams))
        return SAMPLE

    monkeypatch.setattr(comparison, "measure", measured)
    monkeypatch.setattr(tools, "warm_up", lambda *_: None)
    contenders = [openai("vllm serve", "h:1", None), triton_grpc("h:2", None)]
    found = list(compare(contenders, "vllm serve", WORK, Effort([1, 8], 2, 1), lambda _: None))
    a_b, b_a = ["vllm serve", "Triton, gRPC"], ["Triton, gRPC", "vllm serve"]
    assert turns == [(name, streams) for streams in (1, 8) for name in (*a_b, *b_a)]
    theirs, ours = found[0]
    assert theirs.ratios("tokens_per_second") == [1, 1]
    assert ours.ratios("tokens_per_second") == [128 / 100] * 2
    assert ours.ratios("requests_per_second") == [2 / 1.5] * 2
    assert ours.ratios("gap_p99") == [1, 1]


def test_answers_in_one_piece_have_a_latency() -> None:
    whole = replace(SAMPLE, gap_median=None, gap_p99=None, inter_token_median=None, inter_token_p99=None)
    results = [Result(name, 8, [whole], [whole]) for name in ("vllm serve", "Triton")]
    absolute, relative = tables.tables(results, "vllm serve", WORK, 1)
    assert absolute.columns[4:6] == ["latency, ms", "latency p99, ms"]
    names = ["tokens/s", "responses", "latency", "latency p99", "other CPU", "all CPU", "memory"]
    assert relative.columns[1:] == names


def test_vllm_serve_gets_the_engines_own_arguments() -> None:
    arguments = {"model": "/m", "dtype": "float32", "max_num_seqs": 256, "enforce_eager": True, "enable_lora": False}
    options = vllm_serve.options(arguments | {"limits": {"image": 0}, "revision": None})
    assert options[:6] == ["/m", "--dtype", "float32", "--max-num-seqs", "256", "--enforce-eager"]
    assert options[6:] == ["--no-enable-lora", "--limits", '{"image": 0}']


def test_processor_time_and_memory_of_a_tree() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(range(100_000))"])
    try:
        before = usage.of_tree(busy.pid)
        while usage.of_tree(busy.pid).other_seconds < before.other_seconds + 0.02:
            time.sleep(0.01)
        used = usage.of_tree(busy.pid).since(before)
    finally:
        busy.kill()
        busy.wait()
    assert used.other_seconds >= 0.02
    assert used.engine_seconds == 0
    assert used.memory > 1_000_000
    assert max(used.peaks.values()) > 1_000_000


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/x/tritonserver", "--http-port=1"], "tritonserver"),
        (["VLLM::EngineCore", "", ""], "VLLM::EngineCore"),
        (["VLLM::Worker_TP0"], "VLLM::Worker_TP0"),
        (["/x/.venv/bin/python", "/x/.venv/bin/vllm", "serve", "/m"], "vllm serve"),
        ([".venv/bin/python", "-m", "launcher"], "launcher"),
        (["/x/python", "-c", "from multiprocessing.resource_tracker import main;main(14)"], "resource_tracker"),
        ([], "?"),
    ],
)
def test_processes_have_names_for_people(command: list[str], name: str) -> None:
    assert usage.name_of(command) == name


def test_the_engine_is_its_worker_too_and_a_process_that_ended_is_none() -> None:
    worker = subprocess.Popen(["bash", "-c", "exec -a VLLM::Worker sleep 60"])
    try:
        while "VLLM::Worker" not in (found := usage.of_tree(worker.pid)).peaks:
            assert worker.poll() is None
        assert found.other_seconds == 0
    finally:
        worker.terminate()
        worker.wait()


def test_only_programs_outside_are_bystanders() -> None:
    # An orphan: what the benchmark itself has started is no bystander.
    busy = f"{sys.executable} -c 'while True: pass'"
    shell = subprocess.run(
        ["sh", "-c", f"{busy} >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, timeout=10
    )
    pid = int(shell.stdout)
    try:
        outside, inside = Bystanders(), Bystanders(pid)
        while usage.of_tree(pid).other_seconds < 1:
            time.sleep(0.05)
        assert outside.share is not None
        assert inside.share is not None
        assert outside.share > inside.share + 0.2
    finally:
        os.kill(pid, signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            mine, all_but_mine = Bystanders(), Bystanders(child.pid)
            while usage.of_tree(child.pid).other_seconds < 1:
                time.sleep(0.05)
            assert mine.share == pytest.approx(all_but_mine.share, abs=0.2)
        finally:
            child.kill()
    assert Bystanders(os.getpid(), None).share is None


def test_memory_and_company_are_reported() -> None:
    samples = [replace(SAMPLE, peaks={"a": 10**6, "b": 10**9}, idle_cores=0.0, bystander_cores=0.5)] * 2
    samples.append(replace(samples[0], peaks={"a": 2 * 10**6}))
    result = Result("vllm serve", 8, samples, samples)
    assert tables.memory_table([result]).rows == [["vllm serve", "a", "2"], ["vllm serve", "b", "1000"]]
    (_, relative) = tables.tables([result], "vllm serve", WORK, 3)
    assert relative.notes == [
        "Meanwhile the servers without load took 0.00 (0.00 to 0.00) cores, other programs 0.50 (0.50 to 0.50)."
    ]


def test_each_measure_that_was_measured_is_drawn(tmp_path: Path) -> None:
    from PIL import Image

    samples = [replace(SAMPLE, gap_p99=None), replace(SAMPLE, tokens_per_second=256.0, gap_p99=None)]
    results = [Result(name, streams, samples, samples) for name in ("vllm serve", "Triton") for streams in (1, 8)]
    plots.require(None)
    plots.require(tmp_path / "new")
    drawn = plots.draw(tables.pictures(results), "here", tmp_path / "new")
    assert [picture.name for picture in drawn] == ["tokens.png", "first.png", "processor.png"]
    for picture in drawn:
        with Image.open(picture) as image:
            assert image.size == (1200, 600)


def test_a_folder_for_plots_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchmarkError, match=r"--plots .*/file/plots: Not a directory"):
        plots.require(tmp_path / "file/plots")


def test_without_matplotlib_plots_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as Python marks a module that cannot be imported
    with pytest.raises(BenchmarkError, match="--plots needs matplotlib"):
        plots.require(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--streams", "1,many"], "1,many: must be whole numbers from 1 to 1024"),
        (["--streams", "0"], "0: must be whole numbers"),
        (["--streams", "8,1,8"], "8,1,8: there is a number twice"),
        (["--url", "other"], "other: must be NAME=HOST:PORT"),
        (["--backend", "nvidia=/nowhere"], "nvidia=/nowhere: must be NAME=FOLDER, and the folder have a model.py"),
        (["--output", "/nowhere/report.md"], "/nowhere/report.md: no such folder"),
        (["--rounds", "0"], "Invalid value for '--rounds'"),
    ],
)
def test_a_wrong_option_is_named(options: list[str], words: str) -> None:
    run = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["text", *options])
    assert run.exit_code == 2
    assert words in " ".join(run.output.split())


def test_targets_are_judged_by_the_median_of_the_rounds() -> None:
    theirs = [replace(SAMPLE, tokens_per_second=speed, gap_p99=0.05) for speed in (100.0, 200.0, 100.0)]
    ours = [replace(SAMPLE, tokens_per_second=speed, gap_p99=0.061) for speed in (99.0, 202.0, 90.0)]
    results = [Result("vllm serve", 32, theirs, theirs), Result("Triton, HTTP", 32, ours, theirs)]
    results.append(Result("Triton, HTTP, each token", 32, ours, theirs))
    floor = [replace(SAMPLE, tokens_per_second=110.0)]
    results.append(Result("Triton, HTTP, no engine", 32, floor, []))
    found = targets.table(results, {"scripts/serve": [9.0], "vllm serve": [10.0]}, "vllm serve", WORK)
    rows = {(row[0], row[1]): row[2:] for row in found.rows}
    assert rows["tokens/s", "Triton, HTTP"] == ["32", "0.99 (0.90 to 1.01)", "1.00 or more", "not met"]
    assert rows["gap p99", "Triton, HTTP"] == ["32", "61.0 (61.0 to 61.0) ms", "60.0 ms or less", "not met"]
    assert rows["other CPU", "Triton, HTTP"][-1] == "met"
    slower = "tokens/s, to the slower of vllm serve and Triton, HTTP, no engine"
    assert rows[slower, "Triton, HTTP, each token"] == ["32", "0.99 (0.90 to 1.84)", "0.85 or more", "met"]
    assert rows["command to ready", "scripts/serve"] == ["", "0.90", "1.00 or less", "met"]


def test_in_short_it_is_the_ratios_that_were_measured_by_count_of_streams() -> None:
    theirs, ours = [SAMPLE, SAMPLE], [replace(SAMPLE, tokens_per_second=speed, gap_p99=None) for speed in (64.0, 192.0)]
    results = [Result(name, 8, rounds, theirs) for name, rounds in (("vllm serve", theirs), ("Triton, HTTP", ours))]
    results.append(Result("gateway", 32, theirs, theirs))
    found = tables.short(results, "vllm serve")
    same = "1.00 (1.00 to 1.00)"
    assert found.columns == ["at the same time", "8", "32"]
    assert found.rows == [
        ["Triton, HTTP: tokens/s", "1.00 (0.50 to 1.50)", ""],
        ["gateway: tokens/s", "", same],
        ["Triton, HTTP: TTFT p99", same, ""],
        ["Triton, HTTP: other CPU", same, ""],
    ]


def test_a_page_gets_a_runs_table_in_place_of_the_last_ones_and_nothing_else_changes(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    begin, end = "<!-- text in short -->", "<!-- end of text in short -->"
    file.write_text(f"# Numbers\n\n{begin}\nold\n{end}\nThe end.\n")
    page.require(file, "text")
    for machine in ("a machine", "another"):
        page.put(file, "text", Report(machine=machine, tables=[Table("In short", ["", "8"], [["gateway", "1.00"]])]))
    table = "**In short**\n\n|  | 8 |\n| --- | --- |\n| gateway | 1.00 |"
    assert file.read_text() == f"# Numbers\n\n{begin}\nanother\n\n{table}\n\n{end}\nThe end.\n"


@pytest.mark.parametrize("place", ["text", "images"])
def test_the_page_that_is_documented_has_a_place_for_both(place: str) -> None:
    page.require(Path(__file__).resolve().parents[2] / "docs" / "performance.md", place)


def test_what_was_not_measured_is_no_target() -> None:
    whole = [replace(SAMPLE, gap_p99=None)]  # as with answers of one token
    results = [Result(name, streams, whole, whole) for name in ("vllm serve", "Triton, HTTP") for streams in (1, 32)]
    titles = {row[0] for row in targets.table(results, {}, "vllm serve", WORK).rows}
    assert "gap p99" not in titles
    assert {"tokens/s", "TTFT p99"} <= titles


def test_a_stream_that_is_alone_is_to_get_each_token_by_itself() -> None:
    def judged(responses: float) -> list[str]:
        results = [Result("Triton, HTTP", 1, [replace(SAMPLE, responses_per_request=responses)], [SAMPLE])]
        (row,) = (row for row in targets.table(results, {}, "vllm serve", WORK).rows if row[0] == "responses a request")
        return list(row[2:])

    assert judged(63.9) == ["1", "63.9", "63.0 or more", "met"]
    assert judged(60)[-1] == "not met"


def used(contender: str, *, cpu: float = 1.0, tokens: float = 128.0) -> Result:
    samples = [replace(SAMPLE, other_cpu_per_1000_tokens=cpu, tokens_per_second=tokens)]
    return Result(contender, 8, samples, [SAMPLE])


def test_the_engine_without_a_server_is_the_limit_of_all_servers() -> None:
    results = [used("vllm serve", tokens=60), used("Triton, HTTP, no engine", tokens=900)]
    assert tables.limit_note(results) == ""
    note = tables.limit_note([*results, used("engine in process", tokens=120)])
    assert note == "Of what the engine in process does, tokens/s: vllm serve 0.50."


def test_processor_time_has_parts_that_are_not_ours() -> None:
    results = [used("vllm serve", cpu=1.25), used("Triton, HTTP", cpu=1.5), used("engine in process", cpu=0.5)]
    assert tables.parts(results, "vllm serve") is None
    table = tables.parts([*results, used("Triton, HTTP, no engine, paced", cpu=0.25)], "vllm serve")
    assert table is not None
    assert table.rows == [["8", "0.500", "0.250", "0.750", "1.500", "2.00", "1.250", "0.60"]]


def test_without_an_engine_triton_can_keep_the_pace_that_it_has_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[dict[str, Any]]()
    gaps = iter([0.0401, 0.0, 0.05, 0.0])  # of a round each, and of the model without an engine

    def measured(contender: Contender, *_: Any) -> Sample:
        asked.append(contender.body)
        return replace(SAMPLE, responses_per_request=38.6, gap_median=next(gaps))

    monkeypatch.setattr(comparison, "measure", measured)
    monkeypatch.setattr(tools, "warm_up", lambda *_: None)
    contenders = [triton_http("h:1", None), without_engine_paced("h:1", None)]
    list(compare(contenders, "Triton, HTTP", WORK, Effort([8], 2, 1), lambda _: None))
    plain = {"stream": True}
    first, second = (plain | {"responses": 39, "gap_us": gap} for gap in (40100, 50000))
    assert asked == [plain, first, plain, second]


@pytest.fixture
def counted() -> Iterator[tuple[Counter, str]]:
    """A server's counter of tokens, and where it is."""
    registry = CollectorRegistry()
    counter = Counter("vllm:generation_tokens", "Tokens.", ["engine"], registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield counter, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_must_have_generated_what_its_answers_should_have(
    counted: tuple[Counter, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_DELAY", 0.01)
    counter, url = counted
    contenders = [triton_http("h:1", None, url), triton_grpc("h:2", None, url), without_engine_paced("h:1", None)]
    with pytest.raises(BenchmarkError, match="there is no vllm:generation_tokens_total"):
        Counters(contenders)
    for engine in ("0", "1"):
        counter.labels(engine).inc(1000)
    since = Counters(contenders)
    later = threading.Timer(0.2, counter.labels("1").inc, [90])
    later.start()  # Triton's metrics are some seconds behind
    counter.labels("0").inc(11)
    since.require({"Triton, HTTP": 60, "Triton, gRPC": 40, "Triton, HTTP, no engine, paced": 10_000})
    monkeypatch.setattr(counters, "_TIMEOUT", 0.2)
    with pytest.raises(
        BenchmarkError, match="Triton, HTTP, Triton, gRPC: answers of 102 tokens, but the server counts 101"
    ):
        since.require({"Triton, HTTP": 62, "Triton, gRPC": 40})


def test_a_server_whose_metrics_cannot_be_read_is_named() -> None:
    with pytest.raises(BenchmarkError, match=r"http://127.0.0.1:1/metrics: no metrics: ConnectError"):
        Counters([triton_http("h:1", None, "http://127.0.0.1:1/metrics")])


def test_an_answer_of_the_engine_in_process_has_all_its_tokens() -> None:
    ours, theirs = Pipe()
    answers = [{"timestamp": 0, "response_timestamps": [1], "tokens": tokens} for tokens in (64, 63)]
    theirs.send(answers)
    contender = without_server(EngineInProcess(ours, 1, ROOT / ".run/some.log"))
    with pytest.raises(BenchmarkError, match="engine in process: 1 answers do not have 64 tokens, such as 63"):
        tools.warm_up(contender, WORK, 1)


LOAD = Load(["Once"], {}, is_streaming=True, in_flight=1)


def test_an_engine_in_process_that_ends_or_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_tools, "GRACE", 0)
    ours, theirs = Pipe()
    engine = EngineInProcess(ours, 1, ROOT / ".run/some.log")
    with pytest.raises(BenchmarkError, match=r"engine in process has not answered for 0 s: see .run/some.log"):
        engine.answer(LOAD, 0)
    theirs.send([{"timestamp": 1}])
    assert engine.answer(LOAD, 1) == [{"timestamp": 1}]
    theirs.close()
    with pytest.raises(BenchmarkError, match=r"engine in process ended: see .run/some.log"):
        engine.answer(LOAD, 1)


def test_an_engine_in_process_that_does_not_start_is_named() -> None:
    with (
        pytest.raises(BenchmarkError, match=r"engine in process ended: .*no_such_argument.* \(log: (.*)\)") as failed,
        in_process.running({"no_such_argument": 1}, os.environ, lambda _: None),
    ):
        pass
    (ROOT / str(failed.value).rpartition("(log: ")[2].removesuffix(")")).unlink()


def test_starts_are_reported_as_ratios_of_their_rounds() -> None:
    table = tables.start_table({"ours": [10.0, 30.0, 12.0], "theirs": [20.0, 40.0, 20.0]}, "theirs")
    assert list(table.rows[0]) == ["ours", "12.0 (10.0 to 30.0)", "0.60 (0.50 to 0.75)"]
    assert list(table.rows[1]) == ["theirs", "20.0 (20.0 to 40.0)", "1.00 (1.00 to 1.00)"]
