"""The rounds: every contender in turn, one under load at a time, and what came of it."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from benchmarks.text import tools, usage
from benchmarks.text.contenders import Contender, Work

_SETTLING = 1.0  # seconds between two loads


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    streams: Sequence[int]
    """Requests at the same time."""
    rounds: int
    seconds: float
    """Of load, for each contender, count of streams and round."""


@dataclass(frozen=True)
class Sample:
    """One contender, one count of streams, one round. Times in seconds; None: not measured or not known."""

    tokens_per_second: float | None
    """By wrk, over HTTP."""
    profiled_tokens_per_second: float
    """By perf_analyzer, which takes more of the processor than wrk, from all alike."""
    responses_per_request: float
    first_response_median: float | None
    first_response_p99: float | None
    gap_median: float | None
    """Between two responses of a stream."""
    gap_p99: float | None
    engine_cpu_per_1000_tokens: float | None
    """Under wrk's load, and with gRPC under perf_analyzer's."""
    other_cpu_per_1000_tokens: float | None
    memory: float | None
    """Bytes, proportional set size of all processes."""


MEASURES = tuple(field.name for field in fields(Sample))


@dataclass(frozen=True)
class Result:
    """All rounds of one contender and one count of streams, and those of what it is compared with."""

    contender: str
    streams: int
    samples: list[Sample]
    baseline: list[Sample]

    def values(self, measure: str) -> list[float]:
        """One of each round, if it was measured."""
        return [value for sample in self.samples if (value := getattr(sample, measure)) is not None]

    def ratios(self, measure: str) -> list[float]:
        """To the baseline, each within its round."""
        pairs = [
            (getattr(mine, measure), getattr(its, measure))
            for mine, its in zip(self.samples, self.baseline, strict=True)
        ]
        return [mine / its for mine, its in pairs if mine is not None and its]


def compare(
    contenders: Sequence[Contender], baseline: str, work: Work, effort: Effort, say: Callable[[str], None]
) -> Iterator[list[Result]]:
    """The results of one count of streams after the other.

    Args:
        contenders: In the order of the report.
        baseline: Name of the one that the others are compared with.
        work: What each request asks for.
        effort: How much is measured.
        say: Is told what goes on.

    Raises:
        BenchmarkError: A request failed.
    """
    for contender in contenders:
        say(f"warming up {contender.name}")
        tools.profile(contender, work, max(effort.streams), 2 * max(effort.streams))
    for streams in effort.streams:
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        for number in range(effort.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                say(f"{streams} streams, round {number + 1} of {effort.rounds}: {contender.name}")
                samples[contender.name].append(measure(contender, work, streams, effort.seconds))
        yield [Result(name, streams, found, samples[baseline]) for name, found in samples.items()]


def measure(contender: Contender, work: Work, streams: int, seconds: float) -> Sample:
    """One contender under load: first its throughput and what that costs, then when its responses come."""
    hammered = None
    begun = _usage(contender)
    if not contender.is_grpc:
        hammered = tools.hammer(contender, work, streams, seconds)
    between = _usage(contender)
    profiled, times = tools.profile(contender, work, streams, _count(streams))
    ended = _usage(contender)
    load = hammered or profiled
    earlier, later = (begun, between) if hammered else (between, ended)
    used = later.since(earlier) if earlier and later else None
    streamed = times if contender.is_streaming and times.gaps else None
    return Sample(
        tokens_per_second=hammered.tokens / hammered.seconds if hammered else None,
        profiled_tokens_per_second=profiled.tokens / profiled.seconds,
        responses_per_request=profiled.responses / profiled.requests,
        first_response_median=statistics.median(times.first),
        first_response_p99=percentile(times.first, 99),
        gap_median=statistics.median(streamed.gaps) if streamed else None,
        gap_p99=percentile(streamed.gaps, 99) if streamed else None,
        engine_cpu_per_1000_tokens=1000 * used.engine_seconds / load.tokens if used else None,
        other_cpu_per_1000_tokens=1000 * used.other_seconds / load.tokens if used else None,
        memory=float(used.memory) if used else None,
    )


def _count(streams: int) -> int:
    """Requests that perf_analyzer sends: fewer waves of them the larger they are."""
    return streams * max(5, round(40 / math.sqrt(streams)))


def _usage(contender: Contender) -> usage.Usage | None:
    """What it has used so far, once it has settled."""
    time.sleep(_SETTLING)
    return None if contender.pid is None else usage.of_tree(contender.pid)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]
