"""The tools that make the load: wrk, which takes next to no processor time from the servers, and perf_analyzer, which
notes when each response comes and speaks gRPC.
"""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import load_tools
from benchmarks.errors import BenchmarkError, TooFewAnswers
from benchmarks.text.contenders import Contender, Work

_LEAST_WAVES = 3
_UNKNOWN_LENGTH = 120.0  # seconds that a load which nobody measures may take
_NUMBERS = itertools.cycle(range(0, 10_000_000, 20_000))  # each load's requests begin with another one


@dataclass(frozen=True)
class Throughput:
    """What a load brought."""

    requests_per_second: float
    """Of whole waves after the first, a wave being as many answers as there are streams. Streams that began together
    also end together, so that between two such ends the answers are counted right, and nowhere else."""
    responses_per_request: float
    """Events of a stream, or answers in one piece."""
    requests: float
    """Of the whole load, unfinished ones in part."""
    answered: int
    """Those that were answered whole, also to find out how many make a load of the right length."""


@dataclass(frozen=True)
class Timings:
    """When responses came, in seconds."""

    first: list[float]
    """From each request to its first response."""
    gaps: list[float]
    """Between two responses of a request, of all requests."""
    spans: list[float]
    """From each request's first response to its last."""
    requests_per_second: float = 0.0
    """As in `Throughput`."""
    answered: int = 0
    """Also those that are not among the times."""


def require() -> None:
    """Looks for what cannot be fetched.

    Raises:
        BenchmarkError: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not installed (Debian: apt install wrk)")


def load(contender: Contender, work: Work, streams: int, seconds: float) -> Callable[[], Throughput]:
    """`streams` requests always under way for some seconds: ready to be made, and nothing else is when it is called.

    Raises:
        BenchmarkError: A request failed, or too few were answered.
    """
    if contender.is_http:
        return lambda: _http_load(contender, work, streams, seconds)
    # A count that fits: perf_analyzer's own measurement for a time fails unless several of them agree.
    pilot = throughput_of(_profiled(contender, work, streams, _LEAST_WAVES * streams), streams)
    requests = streams * (1 + max(_LEAST_WAVES, round(pilot.requests_per_second * seconds / streams)))

    def measured() -> Throughput:
        found = throughput_of(_profiled(contender, work, streams, requests, seconds), streams)
        return replace(found, answered=found.answered + pilot.answered)

    return measured


def warm_up(contender: Contender, work: Work, streams: int) -> None:
    """Two requests of each stream, which nobody measures.

    Raises:
        BenchmarkError: A request failed.
    """
    _profiled(contender, work, streams, 2 * streams)


def _http_load(contender: Contender, work: Work, streams: int, seconds: float) -> Throughput:
    command = ["wrk", "-t1", f"-c{streams}", f"-d{seconds:.0f}s", "--timeout", "60s", "-s"]
    command += [str(Path(__file__).with_name("wrk.lua")), contender.url]
    variables = {"BENCHMARK_BODY": json.dumps(contender.request(work)), "BENCHMARK_STREAMS": str(streams)}
    variables |= {"BENCHMARK_NUMBER": work.number, "BENCHMARK_FIRST_NUMBER": str(next(_NUMBERS))}
    variables["BENCHMARK_FINISH"] = str(int(contender.tells_finish))
    return throughput_counted(contender, counted(load_tools.run(command, seconds, variables)), streams)


def throughput_counted(contender: Contender, found: dict[str, Any], streams: int) -> Throughput:
    """Out of what wrk.lua counted.

    Raises:
        TooFewAnswers: They make no three waves.
        BenchmarkError: A request failed.
    """
    if found["failures"]:
        how_many = f"{found['failures']} of {found['requests']} requests failed"
        raise BenchmarkError(f"{contender.name}: {how_many} ({found.get('failure', 'why is not known')})")
    waves = found["requests"] // streams
    if waves < _LEAST_WAVES:
        raise TooFewAnswers(
            f"{contender.name}: {found['requests']} answers in {found['seconds']:.1f} s: give it more --seconds"
        )
    rate = (waves - 1) * streams / found["wave_seconds"]
    responses = found["events"] if contender.is_streaming else found["requests"]
    return Throughput(rate, responses / found["requests"], rate * found["seconds"], found["requests"])


def counted(output: str) -> dict[str, Any]:
    """What wrk.lua counted, out of all that wrk printed, and of failures, what the last one was.

    Raises:
        BenchmarkError: Nothing.
    """
    match = re.search(r"^counted (\{.*\})$", output, re.MULTILINE)
    if match is None:
        raise BenchmarkError(f"wrk printed no counts: {output[-500:]}")
    failure = re.search(r"^failure (.*)$", output, re.MULTILINE)
    return json.loads(match[1]) | ({"failure": failure[1]} if failure else {})


def timings(contender: Contender, work: Work, streams: int, requests: int, seconds: float) -> Timings:
    """`requests` requests, `streams` of them always under way.

    Those of the first wave, which all come at once, are not among the times.

    Args:
        contender: Who is asked.
        work: What each request asks for.
        streams: Requests at the same time.
        requests: More than two for each stream.
        seconds: That it takes about.

    Raises:
        BenchmarkError: A request failed.
    """
    found = sorted(_profiled(contender, work, streams, requests, seconds), key=lambda request: request["timestamp"])
    rate = throughput_of(found, streams).requests_per_second
    return replace(timings_of(found[streams:]), requests_per_second=rate, answered=len(found))


def timings_of(requests: list[dict[str, Any]]) -> Timings:
    """Out of requests as perf_analyzer accounts for them."""
    first, gaps, spans = [], [], []
    for request in requests:
        moments = [moment / 1e9 for moment in _moments(request)]
        first.append(moments[0] - request["timestamp"] / 1e9)
        gaps += [later - earlier for earlier, later in itertools.pairwise(moments)]
        spans.append(moments[-1] - moments[0])
    return Timings(first, gaps, spans)


def _moments(request: dict[str, Any]) -> list[int]:
    """When responses with content came: not the empty final one of Triton, nor OpenAI's `[DONE]`."""
    outputs = request.get("response_outputs") or [{}] * len(request["response_timestamps"])
    pairs = zip(request["response_timestamps"], outputs, strict=False)
    kept = [moment for moment, output in pairs if not _is_end(output.get("response"))]
    return kept or request["response_timestamps"][:1]


def _is_end(response: str | None) -> bool:
    return response is not None and (not response.strip() or response.startswith("data: [DONE]"))


def throughput_of(requests: list[dict[str, Any]], streams: int) -> Throughput:
    """Out of requests as perf_analyzer accounts for them, without the last wave, in which the streams end.

    Raises:
        BenchmarkError: They make no three waves.
    """
    waves = len(requests) // streams - 1
    if waves < 2:
        raise BenchmarkError(f"there are {len(requests)} requests of {streams} streams: too few")
    ends = sorted(request["response_timestamps"][-1] for request in requests)
    responses = sum(len(_moments(request)) for request in requests)
    rate = (waves - 1) * streams / (ends[waves * streams - 1] - ends[streams - 1]) * 1e9
    return Throughput(rate, responses / len(requests), len(requests), len(requests))


def _profiled(
    contender: Contender, work: Work, streams: int, requests: int, seconds: float = _UNKNOWN_LENGTH
) -> list[dict[str, Any]]:
    first = next(_NUMBERS)
    works = [work.numbered(number) for number in range(first, first + requests)]
    if contender.engine is not None:
        found = contender.engine.answer(contender.load(works, streams), seconds)
        if cut := [answer["tokens"] for answer in found if answer["tokens"] != work.tokens]:
            raise BenchmarkError(
                f"{contender.name}: {len(cut)} answers do not have {work.tokens} tokens, such as {cut[0]}"
            )
        return found
    if contender.is_grpc:
        protocol, given = ["-i", "grpc", "--streaming"], [contender.tensors(each) for each in works]
    else:
        protocol = ["--service-kind", "openai", "--endpoint", contender.path]
        given = [{"payload": [contender.request(each)]} for each in works]
    options = ["-m", "gemma", "-u", contender.host, *protocol]
    return load_tools.profile(contender.name, options, given, streams, seconds)
