"""The rounds: every contender in turn, one under load at a time, and what came of it."""

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

from benchmarks.bystanders import Bystanders
from benchmarks.errors import TooFewAnswers
from benchmarks.load_tools import persistently
from benchmarks.report import percentile
from benchmarks.rounds import in_turn
from benchmarks.text import tools, usage
from benchmarks.text.contenders import Contender, Work
from benchmarks.text.counters import Counters

_LONGEST = 60.0  # seconds of a load
_SETTLING = 1.0  # seconds between two loads
# Requests whose responses are timed: as many as fit into this share of the load's time, but no fewer than that.
_TIMED_SHARE = 0.5
_TIMED_A_STREAM = 6
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
    profiled_requests_per_second: float
    """With perf_analyzer, which takes more of the processor, as the load."""
    profiled_tokens_per_second: float
    responses_per_request: float
    first_response_median: float
    """From a request to its first response, or to its only one."""
    first_response_p99: float
    gap_median: float | None
    """Between two responses of a stream."""
    gap_p99: float | None
    inter_token_median: float | None
    """A request's time from its first response to its last, for each token after the first."""
    inter_token_p99: float | None
    engine_cpu_per_1000_tokens: float | None
    other_cpu_per_1000_tokens: float | None
    cpu_per_1000_tokens: float | None
    memory: float | None
    """Bytes, proportional set size of all processes."""
    peaks: dict[str, int] = field(default_factory=dict)
    """Bytes that each process has had resident at most, by name."""
    idle_cores: float | None = None
    """Processor cores that the servers without load took meanwhile, on average."""
    bystander_cores: float | None = None
    """The same of programs that have nothing to do with it."""
    answered_tokens: int = 0
    """Those that all answers should have had."""


_NOT_OF_A_CONTENDER = ("peaks", "idle_cores", "bystander_cores", "answered_tokens")
MEASURES = tuple(each.name for each in fields(Sample) if each.name not in _NOT_OF_A_CONTENDER)


@dataclass(frozen=True)
class Result:
    """All rounds of one contender and one count of streams, and those of what it is compared with."""

    contender: str
    streams: int
    samples: list[Sample]
    baseline: list[Sample]
    prompt_tokens: int = 0

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


@dataclass
class Findings:
    """All that a run measured."""

    results: list[Result] = field(default_factory=list)
    starts: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from a server's command to its readiness in each round, by its name."""


def compare(
    contenders: Sequence[Contender],
    baseline: str,
    work: Work,
    effort: Effort,
    say: Callable[[str], None],
) -> Iterator[list[Result]]:
    """The results of one count of streams after the other.

    Args:
        contenders: In the order of the report.
        baseline: Name of the one that the others are compared with.
        work: What each request asks for.
        effort: How much is measured.
        say: Is told what goes on.

    Raises:
        BenchmarkError: A request failed, or a server says that answers had fewer tokens.
    """
    for contender in contenders:
        say(f"warming up {contender.name}")
        persistently(partial(tools.warm_up, contender, work, max(effort.streams)), say)
    servers = {contender.pid for contender in contenders}
    for streams in effort.streams:
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        counters = Counters(contenders)
        for number in range(effort.rounds):
            for contender in sorted(in_turn(contenders, number), key=lambda each: each.paced_like is not None):
                say(f"{streams} streams, round {number + 1} of {effort.rounds}: {contender.name}")
                paced = _at_pace(contender, samples)
                again = partial(measure, paced, servers, work, streams, effort.seconds)
                samples[contender.name].append(persistently(again, say))
        counters.require({name: sum(sample.answered_tokens for sample in some) for name, some in samples.items()})
        theirs = samples[baseline]
        yield [
            Result(
                contender.name,
                streams,
                samples[contender.name],
                _as_profiled(theirs) if contender.is_grpc else theirs,
                work.prompt_tokens,
            )
            for contender in contenders
        ]


def _at_pace(contender: Contender, samples: Mapping[str, Sequence[Sample]]) -> Contender:
    """With the pace that the one has in this round which it is to keep up with."""
    if contender.paced_like is None:
        return contender
    last = samples[contender.paced_like][-1]
    return contender.at_pace(last.responses_per_request, last.gap_median or 0)


def _as_profiled(samples: Sequence[Sample]) -> list[Sample]:
    """As they are with the load that those over gRPC always have."""
    return [
        replace(
            sample,
            requests_per_second=sample.profiled_requests_per_second,
            tokens_per_second=sample.profiled_tokens_per_second,
        )
        for sample in samples
    ]


def measure(contender: Contender, servers: Collection[int | None], work: Work, streams: int, seconds: float) -> Sample:
    """One contender under load: first its throughput and what that costs, then when its responses come.

    Args:
        contender: Whose turn it is.
        servers: Process ids of all contenders; those of the others should be idle.
        work: What each request asks for.
        streams: Requests at the same time.
        seconds: Of load; more if that is too short for the contender.

    Raises:
        BenchmarkError: A request failed, or `_LONGEST` is too short.
    """
    load = tools.load(contender, work, streams, seconds)
    time.sleep(_SETTLING)
    bystanders = Bystanders(*servers)
    pids = [pid for pid in servers if pid is not None]
    before, began = {pid: usage.of_tree(pid) for pid in pids}, time.monotonic()
    try:
        throughput = load()
    except TooFewAnswers:
        if seconds >= _LONGEST:
            raise
        return measure(contender, servers, work, streams, 2 * seconds)
    took = time.monotonic() - began
    bystander_cores = bystanders.share
    all_used = {pid: usage.of_tree(pid).since(before[pid]) for pid in pids}
    used = all_used.pop(contender.pid) if contender.pid is not None else None
    idle = sum(each.engine_seconds + each.other_seconds for each in all_used.values())
    thousands = throughput.requests * work.tokens / 1000
    time.sleep(_SETTLING)
    in_time = round(_TIMED_SHARE * seconds * throughput.requests_per_second)
    timed = tools.timings(contender, work, streams, max(_LEAST_TIMED, _TIMED_A_STREAM * streams, in_time), seconds)
    in_pieces = contender.is_streaming and work.tokens > 1
    per_token = [seconds / (work.tokens - 1) for seconds in timed.spans] if in_pieces else []
    return Sample(
        requests_per_second=throughput.requests_per_second,
        tokens_per_second=throughput.requests_per_second * work.tokens,
        profiled_requests_per_second=timed.requests_per_second,
        profiled_tokens_per_second=timed.requests_per_second * work.tokens,
        responses_per_request=throughput.responses_per_request,
        first_response_median=statistics.median(timed.first),
        first_response_p99=percentile(timed.first, 99),
        gap_median=statistics.median(timed.gaps) if timed.gaps else None,
        gap_p99=percentile(timed.gaps, 99) if timed.gaps else None,
        inter_token_median=statistics.median(per_token) if per_token else None,
        inter_token_p99=percentile(per_token, 99) if per_token else None,
        engine_cpu_per_1000_tokens=used.engine_seconds / thousands if used else None,
        other_cpu_per_1000_tokens=used.other_seconds / thousands if used else None,
        cpu_per_1000_tokens=(used.engine_seconds + used.other_seconds) / thousands if used else None,
        memory=float(used.memory) if used else None,
        peaks=used.peaks if used else {},
        idle_cores=idle / took,
        bystander_cores=bystander_cores,
        answered_tokens=(throughput.answered + timed.answered) * work.tokens,
    )
