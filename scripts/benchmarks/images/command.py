"""`./scripts/benchmark images`: options, the server's life, and where the report goes."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import bystanders, extra_model, load_tools, machine, page, plots, server
from benchmarks.command import counts, deliver, require_folder, run, say
from benchmarks.images import comparison, endpoints, plain_pipeline, tables
from benchmarks.images.comparison import Benchmark, Effort, Result
from benchmarks.images.in_process import Engine, PlainPipeline
from benchmarks.images.requests import Work
from benchmarks.images.systems import System
from benchmarks.images.under_perf_analyzer import UnderPerfAnalyzer
from benchmarks.plots import PlotsFolder
from benchmarks.report import Report
from launcher.layout import shown

PATHS = (PlainPipeline.name, Engine.name, "sdxl, HTTP", "sdxl, gRPC", "gateway")
"""Every way to an image, as the report calls it, from the barest to the one with most around it."""
_WHOLE_REQUESTS = Path(__file__).with_name("whole_request_batching")
_QUICK_SECONDS, _QUICK_ARRIVALS = 4.0, 10.0


def images(
    concurrency: Annotated[
        str, typer.Option(help="Requests at the same time: whole numbers with commas.")
    ] = "1,4,8,16",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which every way to an image has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of load for each turn.")] = 10,
    arrival_seconds: Annotated[
        float, typer.Option(min=0, help="How long requests come, in each run with arrivals; 0: no such run.")
    ] = 60,
    arrival_rounds: Annotated[int, typer.Option(min=1, help="Rounds of the runs with arrivals.")] = 1,
    contender: Annotated[
        list[str] | None, typer.Option(help="Only measure the plain pipeline and these, by the names of the report.")
    ] = None,
    perf_analyzer: Annotated[
        bool, typer.Option("--perf-analyzer", help="Also sdxl over gRPC with perf_analyzer as the closed loop.")
    ] = False,
    side: Annotated[int, typer.Option(min=256, max=2048, help="Width and height of every image, pixels.")] = 256,
    steps: Annotated[
        int, typer.Option(min=2, max=50, help="Denoising steps; arrivals have half to twice as many.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests at the same times.")] = 0,
    url: Annotated[str | None, typer.Option(help="gRPC host:port of a running server; its own if not given.")] = None,
    http_url: Annotated[str, typer.Option(help="With --url: the server's HTTP address.")] = "http://127.0.0.1:8000",
    repository: Annotated[
        Path | None, typer.Option(help="With --url: the model repository that the server reads.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round, for a look.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the report to this file, as Markdown.")] = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    short_page: page.Page = None,
    pictures: PlotsFolder = None,
) -> None:
    """Measure every way to an image beside the plain diffusers pipeline, and `sdxl` beside batching whole requests."""
    require_folder("--output", output)
    require_folder("--json", json_output)
    page.require(short_page, "images")
    for name in contender or ():
        if name not in PATHS:
            raise typer.BadParameter(f"{name}: must be one of {', '.join(PATHS)}", param_hint="--contender")
    concurrencies = counts("--concurrency", concurrency)
    if quick:
        rounds = arrival_rounds = 1
        seconds, arrival_seconds = min(seconds, _QUICK_SECONDS), min(arrival_seconds, _QUICK_ARRIVALS)
    effort = Effort(Work(side, steps), concurrencies, rounds, seconds, arrival_seconds, arrival_rounds, seed)
    report, results = Report(), list[Result]()
    names = {PATHS[0], *(contender or PATHS)} | ({UnderPerfAnalyzer.name} if perf_analyzer else set())

    def measure() -> None:
        plots.require(pictures)
        if perf_analyzer:
            load_tools.require_perf_analyzer()
        with _server(url, http_url, repository) as target:
            report.machine = machine.describe(target)
            benchmark = Benchmark(effort, bystanders.beside(target), say)
            asyncio.run(_measure(benchmark, target, names, report, results))

    failure = run(measure)
    if report.tables:
        deliver(report, output)
        if json_output is not None:
            content = tables.as_json(results, PlainPipeline.name, report.machine, effort.work)
            json_output.write_text(json.dumps(content, indent=1) + "\n")
            say(f"numbers written to {shown(json_output.resolve())}")
        if failure == 0:
            short = tables.short(results, PlainPipeline.name, effort.work)
            page.deliver(short_page, "images", Report(machine=report.machine, tables=[short]), say)
        plots.deliver(tables.pictures(results), report.machine, pictures, say)
    sys.exit(failure)


async def _measure(
    run: Benchmark, target: server.Server, names: set[str], report: Report, results: list[Result]
) -> None:
    """All tables, each as soon as it is there. What ran in this process ends before a model more is loaded."""
    async with AsyncExitStack() as stack:
        systems = await _contenders(stack, target, names)
        note = await _same_picture(systems, run.effort.work)
        try:
            async for found in comparison.closed_loops(run, systems):
                results += found
                report.tables += tables.closed_loop_tables(found, PATHS[:2], run.effort.work, run.effort.rounds)
                report.tables[-1].notes.append(note)
        finally:
            layers = tables.derived(results, run.effort.work)
            if layers.rows:
                report.tables.append(layers)
        if not run.effort.arrival_seconds:
            return
        await _measure_arrivals(run, [each for each in systems if each.name in PATHS], report, results)
    with extra_model.loaded(target, _WHOLE_REQUESTS, [Path(plain_pipeline.__file__)]) as model:
        async with (
            endpoints.over_grpc(target, "sdxl", "sdxl") as ours,
            endpoints.over_grpc(target, model, "whole-request batching", batched=True) as whole,
        ):
            await _compare_batching(run, [ours, whole], report, results)


async def _measure_arrivals(run: Benchmark, systems: list[System], report: Report, results: list[Result]) -> None:
    """All ways to an image, at a rate that the barest can take."""
    found = await comparison.capacities(run, systems[:1])
    results += found
    rate = comparison.LOAD * found[0].values("images_per_second")[0]
    found = await comparison.arrivals(run, systems, rate, f"the {PATHS[0]}'s capacity")
    results += found
    effort = run.effort
    report.tables += tables.arrivals_tables(found, PATHS[:2], effort.work, rate, comparison.LOAD, effort.arrival_rounds)


async def _compare_batching(run: Benchmark, both: list[System], report: Report, results: list[Result]) -> None:
    work = run.effort.work
    found = await comparison.capacities(run, both)
    results += found
    report.tables.append(tables.capacity_table(found, work))
    report.tables[-1].notes.append(await _same_picture(both, work))
    capacities = [result.values("images_per_second")[0] for result in found]
    for name, rate in comparison.arrival_rates(*capacities).items():
        found = await comparison.arrivals(run, both, rate, name)
        results += found
        report.tables.append(tables.two_under_arrivals(found, work, rate, comparison.LOAD))


async def _contenders(stack: AsyncExitStack, target: server.Server, names: set[str]) -> list[System]:
    """Those that are wanted and there, in the order of `PATHS`; `stack` closes them."""
    _, engine, http, grpc, gateway = PATHS
    systems: list[System] = [stack.enter_context(closing(PlainPipeline(target.engine)))]
    if engine in names:
        systems.append(stack.enter_context(closing(Engine(target.engine))))
    if http in names:
        systems.append(await stack.enter_async_context(endpoints.over_http(target, "sdxl", http)))
    if grpc in names:
        systems.append(await stack.enter_async_context(endpoints.over_grpc(target, "sdxl", grpc)))
    if gateway in names and target.api_url:
        systems.append(await stack.enter_async_context(endpoints.gateway(target)))
    if UnderPerfAnalyzer.name in names:
        model = await stack.enter_async_context(endpoints.over_grpc(target, "sdxl", UnderPerfAnalyzer.name))
        systems.append(UnderPerfAnalyzer(model, target.grpc_url, say))
    return systems


async def _same_picture(systems: Sequence[System], work: Work) -> str:
    request = comparison.first(work)
    return tables.difference({system.name: await system.draw(request) for system in systems})


def _server(url: str | None, http_url: str, repository: Path | None) -> AbstractContextManager[server.Server]:
    if url is None:
        return server.own(say, SERVE="images,gateway")
    return nullcontext(server.running(url, http_url, repository))
