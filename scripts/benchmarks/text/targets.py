"""What Triton is to reach beside `vllm serve`, and whether it did."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import Table, judged, spread
from benchmarks.text.comparison import Result
from benchmarks.text.contenders import EACH_TOKEN, FLOOR, GATEWAY, GRPC, HTTP, NOT_STREAMED, Work

_SMOOTH = 60.0
"""Milliseconds between two responses that a reader does not notice."""


@dataclass(frozen=True)
class Target:
    """A bound for a measure's median ratio to that of `vllm serve`."""

    title: str
    contender: str
    measure: str
    bound: float
    streams: Sequence[int] = ()
    """Where it counts; empty: everywhere."""
    at_most: bool = False


_RATIOS = (
    Target("tokens/s", HTTP, "tokens_per_second", 1.0),
    Target("tokens/s", GRPC, "tokens_per_second", 1.0),
    Target("tokens/s", GATEWAY, "tokens_per_second", 0.85, [32]),
    Target("tokens/s", HTTP + NOT_STREAMED, "tokens_per_second", 1.05, [32]),
    Target("TTFT p99", HTTP, "first_response_p99", 1.0, [32, 128], at_most=True),
    Target("gap p99", HTTP, "gap_p99", 1.1, [1], at_most=True),
    Target("other CPU", HTTP, "other_cpu_per_1000_tokens", 1.0, at_most=True),
)


def table(results: Sequence[Result], starts: Mapping[str, Sequence[float]], baseline: str, work: Work) -> Table:
    """Each target of which there is a measurement.

    Args:
        results: Of all contenders, with prompts of the same length.
        starts: Seconds from command to ready by server; may be empty.
        baseline: Name of the one that the others are compared with.
        work: What each request asked for.
    """
    columns = ["", "contender", "at the same time", "measured (lowest to highest)", "target", ""]
    found = Table(f"Targets, as ratios to {baseline} where there is no unit", columns)
    found.rows += _ratios(results)
    found.rows += _gaps(results, baseline)
    found.rows += _alone(results, work)
    found.rows += _each_token(results, baseline)
    for name in set(starts) - {baseline}:
        ratios = [mine / its for mine, its in zip(starts[name], starts[baseline], strict=True)]
        found.rows.append(_row("command to ready", name, "", ratios, 1.0, at_most=True))
    return found


def _ratios(results: Sequence[Result]) -> Iterator[list[str]]:
    for target in _RATIOS:
        for result in results:
            if result.contender == target.contender and (not target.streams or result.streams in target.streams):
                place = (result.contender, str(result.streams))
                if ratios := result.ratios(target.measure):
                    yield _row(target.title, *place, ratios, target.bound, at_most=target.at_most)


def _gaps(results: Sequence[Result], baseline: str) -> Iterator[list[str]]:
    """Not noticed, or not much longer than the baseline's."""
    theirs = {result.streams: result.values("gap_p99") for result in results if result.contender == baseline}
    for result in results:
        gaps = [1000 * gap for gap in result.values("gap_p99")]
        if gaps and result.contender == HTTP and result.streams in (32, 128):
            most = max(_SMOOTH, 1.1 * 1000 * statistics.median(theirs[result.streams]))
            yield _row("gap p99", HTTP, str(result.streams), gaps, most, at_most=True, unit=" ms", digits=1)


def _alone(results: Sequence[Result], work: Work) -> Iterator[list[str]]:
    """A stream that is alone gets each token by itself; the last one may end the text without adding to it."""
    for result in results:
        if result.contender == HTTP and result.streams == 1:
            pieces = result.values("responses_per_request")
            yield _row("responses a request", HTTP, "1", pieces, work.tokens - 1, at_most=False, digits=1)


def _each_token(results: Sequence[Result], baseline: str) -> Iterator[list[str]]:
    """A response for each token comes near the slower one of the baseline and what the responses' path passes on."""
    floors = {
        result.streams: statistics.median(result.values("tokens_per_second"))
        for result in results
        if result.contender == FLOOR
    }
    for result in results:
        if result.contender == HTTP + EACH_TOKEN:
            ratios = [
                mine.tokens_per_second / min(its.tokens_per_second, floors.get(result.streams, math.inf))
                for mine, its in zip(result.samples, result.baseline, strict=True)
            ]
            title = f"tokens/s, to the slower of {baseline} and {FLOOR}" if result.streams in floors else "tokens/s"
            yield _row(title, result.contender, str(result.streams), ratios, 0.85, at_most=False)


def _row(
    title: str,
    contender: str,
    streams: str,
    values: Sequence[float],
    bound: float,
    *,
    at_most: bool,
    unit: str = "",
    digits: int = 2,
) -> list[str]:
    verdict = judged(values, bound, at_most=at_most, unit=unit, digits=digits)
    return [title, contender, streams, f"{spread(values, digits)}{unit}", *verdict]
