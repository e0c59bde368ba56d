"""The whole benchmark: two comparisons, each with the systems measured in turn, never two under load at once."""

import io
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton
from PIL import Image

from benchmarks import extra_model
from benchmarks.bystanders import Bystanders
from benchmarks.images import loads, plain_pipeline
from benchmarks.images.loads import Replay
from benchmarks.images.requests import MIXED_STEPS, SIDE, STEPS, ImageRequest, alike, mixed, poisson
from benchmarks.images.systems import PlainPipeline, System, TritonModel
from benchmarks.report import Report, Table, ratio, spread
from benchmarks.server import Server

_BASELINE = Path(__file__).with_name("whole_request_batching")
AT_ONCE = 8
"""Requests at the same time in the first comparison."""
IN_FLIGHT = 16
"""Requests always under way while a capacity is measured: a batch at work and one that waits."""
LOAD = 0.7
"""Arrivals as a part of a capacity."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    """Of the first comparison."""
    seconds: float
    """For which requests come, in each run of the second."""
    latency_rounds: int
    """Of the second comparison, each with arrivals of its own."""
    seed: int
    """The same seed gives the same requests."""


@dataclass(frozen=True)
class Benchmark:
    """One run: what is measured, how much, who hears of its progress, and where the results go."""

    server: Server
    effort: Effort
    report: Report
    bystanders: Bystanders
    say: Callable[[str], None]

    def source(self, name: str) -> random.Random:
        """A source of random numbers, the same for the same name and seed."""
        return random.Random(f"{self.effort.seed} {name}")


@dataclass
class Measured:
    """What was measured of one system."""

    system: System
    at_once: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    bystanders: list[str] = field(default_factory=list)

    def percentiles(self, percent: float) -> list[float]:
        """One of each round, in seconds."""
        return [replay.percentile(percent) for replay in self.replays]

    @property
    def counts(self) -> str:
        """How many requests there were, and how many of them failed."""
        failed = sum(len(replay.errors) for replay in self.replays)
        return f"{sum(len(replay.latencies) for replay in self.replays)}, {failed} failed"


@asynccontextmanager
async def image_engine(server: Server) -> AsyncIterator[System]:
    """`sdxl`, which hands its requests to the image engine."""
    async with triton.InferenceServerClient(server.grpc_url) as client:
        yield TritonModel(client, "sdxl", "sdxl", batched=False)


@asynccontextmanager
async def whole_request_batching(server: Server) -> AsyncIterator[System]:
    """Whole-request batching, loaded for as long as it is measured."""
    modules = [Path(plain_pipeline.__file__)]
    with extra_model.loaded(server, _BASELINE, modules) as name:
        async with triton.InferenceServerClient(server.grpc_url) as client:
            yield TritonModel(client, name, "whole-request batching", batched=True)


async def compare_throughput(run: Benchmark) -> None:
    """Requests at once through `sdxl` against the plain pipeline, one image after the other.

    Raises:
        DrawingFailed: A request failed.
    """
    source = run.source("throughput")
    plain = PlainPipeline(run.server.engine)
    try:
        async with image_engine(run.server) as sdxl:
            note = await _difference(sdxl, plain)
            await loads.at_once(sdxl, alike(AT_ONCE, source))  # warms up
            ours, theirs = Measured(sdxl), Measured(plain)
            run.bystanders.restart()
            for number in range(1, run.effort.rounds + 1):
                run.say(f"throughput, round {number} of {run.effort.rounds}")
                several, single = alike(AT_ONCE, source), alike(1, source)
                for measured in _in_turn([ours, theirs], number):
                    send = loads.one_after_another if measured is theirs else loads.at_once
                    measured.at_once.append(await send(measured.system, several))
                    measured.alone.append(await loads.one_after_another(measured.system, single))
            others = run.bystanders.cores
    finally:
        plain.close()
    run.report.tables.append(
        Table(
            f"Throughput: {SIDE}x{SIDE}, {STEPS} steps, images/s; medians of {run.effort.rounds} rounds",
            ["load", sdxl.name, plain.name, "ratio"],
            [
                [f"{AT_ONCE} requests at once", *_compared(ours.at_once, theirs.at_once)],
                ["1 request alone", *_compared(ours.alone, theirs.alone)],
            ],
            [f"The plain pipeline draws the {AT_ONCE} one after the other. {note} Other programs took {others} cores."],
        )
    )


async def compare_latency(run: Benchmark) -> None:
    """`sdxl` against whole-request batching under Poisson arrivals of mixed step counts.

    Raises:
        BenchmarkError: Whole-request batching cannot be loaded or unloaded.
        DrawingFailed: A request failed that was not among the arrivals.
    """
    async with image_engine(run.server) as sdxl, whole_request_batching(run.server) as whole:
        note = await _difference(sdxl, whole)
        capacities = [await _capacity(run, system) for system in (sdxl, whole)]
        columns = ["", sdxl.name, whole.name, "ratio"]
        run.report.tables.append(
            Table(
                f"Capacity: {SIDE}x{SIDE}, {_steps()}, {IN_FLIGHT} requests always under way",
                columns,
                [["images/s", *_compared(*([capacity] for capacity in capacities))]],
                [note],
            )
        )
        for name, capacity in _named(capacities).items():
            ours, theirs = Measured(sdxl), Measured(whole)
            await _replay(run, [ours, theirs], LOAD * capacity, name)
            title = f"Latency: {SIDE}x{SIDE}, {_steps()}, arrivals at {LOAD:.0%} of {name}, {LOAD * capacity:.2f}/s"
            run.report.tables.append(_latency_table(title, columns, ours, theirs))


def _named(capacities: Sequence[float]) -> dict[str, float]:
    """The capacities of which the arrival rates are a part: the lower one, and that of sdxl if it is not the same."""
    ours, theirs = capacities
    return {"sdxl's capacity": ours} if ours <= theirs else {"the lower capacity": theirs, "sdxl's capacity": ours}


async def _capacity(run: Benchmark, system: System) -> float:
    run.say(f"capacity of {system.name}")
    return await loads.saturate(system, mixed(run.source("capacity")), IN_FLIGHT, run.effort.seconds / 2)


async def _replay(run: Benchmark, both: list[Measured], rate: float, name: str) -> None:
    """In every round both get the same arrivals."""
    for number in range(1, run.effort.latency_rounds + 1):
        arrivals = poisson(rate, run.effort.seconds, run.source(f"{name} {number}"))
        for measured in _in_turn(both, number):
            run.say(f"{len(arrivals)} arrivals at {rate:.2f}/s for {measured.system.name}, round {number}")
            run.bystanders.restart()
            measured.replays.append(await loads.replay(measured.system, arrivals))
            measured.bystanders.append(run.bystanders.cores)
            await measured.system.draw(ImageRequest(0))  # behind all that may be left of requests that timed out


def _latency_table(title: str, columns: Sequence[str], ours: Measured, theirs: Measured) -> Table:
    errors = sorted({error for measured in (ours, theirs) for replay in measured.replays for error in replay.errors})
    return Table(
        title,
        columns,
        [
            ["median, s", *_compared(ours.percentiles(50), theirs.percentiles(50), less_is_better=True)],
            ["99th percentile, s", *_compared(ours.percentiles(99), theirs.percentiles(99), less_is_better=True)],
            ["requests", ours.counts, theirs.counts, ""],
            ["cores that other programs took", ", ".join(ours.bystanders), ", ".join(theirs.bystanders), ""],
        ],
        [f"Failed: {error}" for error in errors[:3]],
    )


def _compared(ours: Sequence[float], theirs: Sequence[float], *, less_is_better: bool = False) -> list[str]:
    """Three cells; the ratio is above 1 if ours is better."""
    return [spread(ours), spread(theirs), ratio(theirs, ours) if less_is_better else ratio(ours, theirs)]


async def _difference(first: System, second: System) -> str:
    """How alike both systems draw one request, in a sentence."""
    files = [await system.draw(ImageRequest(0)) for system in (first, second)]
    one, other = (np.asarray(Image.open(io.BytesIO(file)), dtype=int) for file in files)
    most = int(np.abs(one - other).max())
    if most == 0:
        return "A request alone gives the same picture from both, pixel for pixel."
    return f"The pictures that a request alone gives from both differ by up to {most} of 255."


def _steps() -> str:
    return f"{', '.join(map(str, MIXED_STEPS))} steps mixed"


def _in_turn(both: list[Measured], number: int) -> list[Measured]:
    """Who goes first alternates with the rounds."""
    return both if number % 2 else both[::-1]
