"""The rounds: every system in turn, one under load at a time, and what came of it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice

from benchmarks.bystanders import Bystanders
from benchmarks.images import loads
from benchmarks.images.requests import ImageRequest, Work, alike, mixed, poisson
from benchmarks.images.systems import System
from benchmarks.images.under_perf_analyzer import UnderPerfAnalyzer
from benchmarks.report import percentile
from benchmarks.rounds import in_turn

IN_FLIGHT = 16
"""Requests always under way while a capacity is measured: a batch at work and one that waits."""
LOAD = 0.7
"""Arrivals as a part of a capacity."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    work: Work
    concurrencies: Sequence[int]
    """Requests at the same time."""
    rounds: int
    seconds: float
    """Of load, for each system, count of requests and round."""
    arrival_seconds: float
    """For which requests come in each run with arrivals; 0: none."""
    arrival_rounds: int
    seed: int
    """The same seed gives the same requests."""


@dataclass(frozen=True)
class Benchmark:
    """One run: how much is measured, who else uses the machine, and who hears of its progress."""

    effort: Effort
    bystanders: Bystanders
    say: Callable[[str], None]

    def source(self, name: str) -> random.Random:
        """A source of random numbers, the same for the same name and seed."""
        return random.Random(f"{self.effort.seed} {name}")


@dataclass(frozen=True)
class Sample:
    """One system under one load in one round; times in seconds. None: not known.

    With arrivals, images per second are those that were drawn by the time the last one was.
    """

    images_per_second: float
    latency_median: float
    latency_p95: float
    latency_p99: float
    images_per_step: float | None = None
    bystander_cores: float | None = None
    requests: int = 0
    errors: Sequence[str] = ()


MEASURES = tuple(each.name for each in fields(Sample) if each.name not in ("bystander_cores", "requests", "errors"))


@dataclass
class Result:
    """All rounds of one system under one load."""

    system: str
    load: str
    samples: list[Sample] = field(default_factory=list)

    def values(self, measure: str) -> list[float]:
        """One of each round, if it was measured."""
        return [value for sample in self.samples if (value := getattr(sample, measure)) is not None]

    def ratios(self, measure: str, baseline: "Result") -> list[float]:
        """To those of another system, each within its round."""
        pairs = [
            (getattr(mine, measure), getattr(its, measure))
            for mine, its in zip(self.samples, baseline.samples, strict=True)
        ]
        return [mine / its for mine, its in pairs if mine is not None and its]


async def closed_loops(run: Benchmark, systems: Sequence[System]) -> AsyncIterator[list[Result]]:
    """The results of one count of requests at the same time after the other, each of the same number of steps.

    Raises:
        DrawingFailed: A request failed.
        BenchmarkError: A tool did.
    """
    effort = run.effort
    for system in systems:
        run.say(f"warming up {system.name}")
        warm_up = islice(alike(effort.work, run.source("warming up")), max(effort.concurrencies))
        await asyncio.gather(*map(system.draw, warm_up))
    for concurrency in effort.concurrencies:
        results = [Result(system.name, str(concurrency)) for system in systems]
        for number in range(effort.rounds):
            for result, system in in_turn(list(zip(results, systems, strict=True)), number):
                run.say(f"{concurrency} at a time, round {number + 1} of {effort.rounds}: {system.name}")
                requests = alike(effort.work, run.source(f"{concurrency} {number}"))
                result.samples.append(await closed_loop(run, system, requests, concurrency, effort.seconds))
        yield results


async def capacities(run: Benchmark, systems: Sequence[System]) -> list[Result]:
    """What each draws with `IN_FLIGHT` requests of mixed step counts always under way, measured once.

    Raises:
        DrawingFailed: A request failed.
    """
    results = []
    for system in systems:
        run.say(f"capacity of {system.name}")
        requests = mixed(run.effort.work, run.source("capacity"))
        sample = await closed_loop(run, system, requests, IN_FLIGHT, run.effort.arrival_seconds / 2)
        results.append(Result(system.name, "capacity", [sample]))
    return results


async def arrivals(run: Benchmark, systems: Sequence[System], rate: float, name: str) -> list[Result]:
    """In every round all get the same requests, at the same times of a Poisson process of so many a second.

    Args:
        run: How much is measured.
        systems: Who has a turn in each round.
        rate: Requests a second.
        name: What `rate` is a part of, for the results.
    """
    results = [Result(system.name, name) for system in systems]
    effort = run.effort
    for number in range(effort.arrival_rounds):
        coming = poisson(effort.work, rate, effort.arrival_seconds, run.source(f"{name} {number}"))
        for result, system in in_turn(list(zip(results, systems, strict=True)), number):
            run.say(f"{len(coming)} arrivals at {rate:.2f}/s, round {number + 1}: {system.name}")
            run.bystanders.restart()
            result.samples.append(_sample(await loads.replay(system, coming), run))
            await system.draw(first(effort.work))  # behind all that may be left of requests that timed out
    return results


def arrival_rates(ours: float, theirs: float) -> dict[str, float]:
    """By what they are a part of: the lower capacity, and that of sdxl if it is not the same."""
    names = {"sdxl's capacity": ours} if ours <= theirs else {"the lower capacity": theirs, "sdxl's capacity": ours}
    return {name: LOAD * capacity for name, capacity in names.items()}


async def closed_loop(
    run: Benchmark, system: System, requests: Iterator[ImageRequest], in_flight: int, seconds: float
) -> Sample:
    """One system under load. Raises `DrawingFailed`, `BenchmarkError`."""
    run.bystanders.restart()
    if isinstance(system, UnderPerfAnalyzer):
        return _sample(await system.closed_loop(requests, in_flight, seconds), run)
    return _sample(await loads.closed_loop(system, requests, in_flight, seconds), run)


def first(work: Work) -> ImageRequest:
    """One request, the same each time."""
    return ImageRequest(0, work.side, work.steps)


def _sample(load: loads.Load, run: Benchmark) -> Sample:
    median, p95, p99 = (percentile(load.latencies, percent) for percent in (50, 95, 99))
    others, count = run.bystanders.share, len(load.latencies)
    return Sample(load.images_per_second, median, p95, p99, load.images_per_step, others, count, load.errors)
