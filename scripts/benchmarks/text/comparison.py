"""The rounds: every contender in turn, one under load at a time, and what came of it."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from benchmarks.text import tools, usage
from benchmarks.text.contenders import Contender, Work

_SETTLING = 1.0  # seconds between two loads
_WARM_UP = 3.0  # seconds of load that nobody measures
_TIMED_A_STREAM = 3  # requests of each stream whose responses are timed
_LEAST_TIMED = 12


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

    requests_per_second: float
    tokens_per_second: float
    responses_per_request: float
    first_response_median: float | None
    first_response_p99: float | None
    gap_median: float | None
    """Between two responses of a stream."""
    gap_p99: float | None
    engine_cpu_per_1000_tokens: float | None
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
        tools.throughput(contender, work, max(effort.streams), _WARM_UP)
    for streams in effort.streams:
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        for number in range(effort.rounds):
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                say(f"{streams} streams, round {number + 1} of {effort.rounds}: {contender.name}")
                samples[contender.name].append(measure(contender, work, streams, effort.seconds))
        yield [Result(name, streams, found, samples[baseline]) for name, found in samples.items()]


def measure(contender: Contender, work: Work, streams: int, seconds: float) -> Sample:
    """One contender under load: first its throughput and what that costs, then when its responses come."""
    time.sleep(_SETTLING)
    before = usage.of_tree(contender.pid) if contender.pid else None
    throughput = tools.throughput(contender, work, streams, seconds)
    used = usage.of_tree(contender.pid).since(before) if contender.pid and before else None
    tokens = throughput.requests * work.tokens
    time.sleep(_SETTLING)
    timed = None
    if contender.is_streaming:
        timed = tools.timings(contender, work, streams, max(_LEAST_TIMED, _TIMED_A_STREAM * streams))
    return Sample(
        requests_per_second=throughput.requests / throughput.seconds,
        tokens_per_second=tokens / throughput.seconds,
        responses_per_request=throughput.responses / throughput.requests,
        first_response_median=statistics.median(timed.first) if timed else None,
        first_response_p99=percentile(timed.first, 99) if timed else None,
        gap_median=statistics.median(timed.gaps) if timed and timed.gaps else None,
        gap_p99=percentile(timed.gaps, 99) if timed and timed.gaps else None,
        engine_cpu_per_1000_tokens=1000 * used.engine_seconds / tokens if used else None,
        other_cpu_per_1000_tokens=1000 * used.other_seconds / tokens if used else None,
        memory=float(used.memory) if used else None,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]
