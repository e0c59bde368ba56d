"""`./scripts/benchmark images`: options, the server's life, and where the report goes."""

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import bystanders, machine, server
from benchmarks.command import deliver, require_folder, run, say
from benchmarks.images import comparison
from benchmarks.images.comparison import Benchmark, Effort
from benchmarks.report import Report


def images(
    seconds: Annotated[float, typer.Option(min=1, help="How long requests come, in each run with arrivals.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the throughput comparison.")] = 7,
    latency_rounds: Annotated[int, typer.Option(min=1, help="Rounds of the runs with arrivals.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests at the same times.")] = 0,
    url: Annotated[str | None, typer.Option(help="gRPC host:port of a running server; its own if not given.")] = None,
    http_url: Annotated[str, typer.Option(help="With --url: the server's HTTP address.")] = "http://127.0.0.1:8000",
    repository: Annotated[
        Path | None, typer.Option(help="With --url: the model repository that the server reads.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the report to this file, as Markdown.")] = None,
) -> None:
    """Measure the image engine against the plain diffusers pipeline and against batching whole requests."""
    require_folder("--output", output)
    effort = Effort(rounds, seconds, latency_rounds, seed)
    report = Report()

    def measure() -> None:
        with _server(url, http_url, repository) as target:
            report.machine = machine.describe(target)
            asyncio.run(_measure(Benchmark(target, effort, report, bystanders.beside(target), say)))

    failure = run(measure)
    if report.tables:
        deliver(report, output)
    sys.exit(failure)


async def _measure(run: Benchmark) -> None:
    await comparison.compare_throughput(run)
    await comparison.compare_latency(run)


def _server(url: str | None, http_url: str, repository: Path | None) -> AbstractContextManager[server.Server]:
    return server.own(say) if url is None else nullcontext(server.running(url, http_url, repository))
