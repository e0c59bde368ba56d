"""Results as tables for people and as JSON for programs."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.plots import Picture, picture
from benchmarks.report import Table, spread
from benchmarks.text.comparison import MEASURES, Findings, Result
from benchmarks.text.contenders import EACH_TOKEN, ENGINE, FLOOR, FLOOR_PACED, GATEWAY, GRPC, HTTP, NOT_STREAMED, Work

# Title, measure, factor to the unit shown, digits.
_COLUMNS = [
    ("requests/s", "requests_per_second", 1, 1),
    ("tokens/s", "tokens_per_second", 1, 0),
    ("responses a request", "responses_per_request", 1, 1),
    ("TTFT, ms", "first_response_median", 1000, 0),
    ("TTFT p99, ms", "first_response_p99", 1000, 0),
    ("ITL, ms", "inter_token_median", 1000, 1),
    ("ITL p99, ms", "inter_token_p99", 1000, 1),
    ("gap, ms", "gap_median", 1000, 1),
    ("gap p99, ms", "gap_p99", 1000, 1),
    ("engine's CPU-s/1000 tokens", "engine_cpu_per_1000_tokens", 1, 3),
    ("other CPU-s/1000 tokens", "other_cpu_per_1000_tokens", 1, 3),
    ("memory, MB", "memory", 1e-6, 0),
]
_RATIOS = [
    ("tokens/s", "tokens_per_second"),
    ("responses", "responses_per_request"),
    ("TTFT", "first_response_median"),
    ("TTFT p99", "first_response_p99"),
    ("ITL", "inter_token_median"),
    ("ITL p99", "inter_token_p99"),
    ("gap p99", "gap_p99"),
    ("other CPU", "other_cpu_per_1000_tokens"),
    ("all CPU", "cpu_per_1000_tokens"),
    ("memory", "memory"),
]
# Contender, measure, its title; the rows of the table in short.
_SHORT = [
    (HTTP, "tokens_per_second", "tokens/s"),
    (GRPC, "tokens_per_second", "tokens/s"),
    (GATEWAY, "tokens_per_second", "tokens/s"),
    (HTTP + NOT_STREAMED, "tokens_per_second", "tokens/s"),
    (HTTP, "first_response_p99", "TTFT p99"),
    (HTTP, "gap_p99", "gap p99"),
    (HTTP, "other_cpu_per_1000_tokens", "other CPU"),
    (HTTP + EACH_TOKEN, "tokens_per_second", "tokens/s"),
    (HTTP + EACH_TOKEN, "gap_p99", "gap p99"),
    (HTTP + EACH_TOKEN, "other_cpu_per_1000_tokens", "other CPU"),
]
# File, label, measure, factor to the unit shown.
_PICTURES = [
    ("tokens", "tokens/s", "tokens_per_second", 1),
    ("first", "time to the first text, 99th percentile, ms", "first_response_p99", 1000),
    ("gaps", "gap between two responses, 99th percentile, ms", "gap_p99", 1000),
    ("processor", "processor time, s per 1000 tokens", "cpu_per_1000_tokens", 1),
]


def tables(results: Sequence[Result], baseline: str, work: Work, rounds: int) -> list[Table]:
    """What was measured with one count of streams, and the ratios to the baseline; what nobody has is left out."""
    streams = f"{results[0].streams} at the same time, prompts of {work.prompt_tokens} tokens"
    others = [result for result in results if result.contender != baseline]
    first = "TTFT" if any(result.values("gap_median") for result in results) else "latency"  # answers in one piece
    columns = [column for column in _COLUMNS if any(result.values(column[1]) for result in results)]
    ratios = [ratio for ratio in _RATIOS if any(result.ratios(ratio[1]) for result in others)]
    absolute = Table(
        f"{streams}, answers of {work.tokens}; medians of {rounds} rounds",
        ["", *(title.replace("TTFT", first) for title, *_ in columns)],
    )
    relative = Table(
        f"{streams}, as ratios to {baseline} (lowest to highest)",
        ["", *(title.replace("TTFT", first) for title, _ in ratios)],
    )
    for result in results:
        cells = [_median(result.values(measure), factor, digits) for _, measure, factor, digits in columns]
        absolute.rows.append([result.contender, *cells])
    for result in others:
        of_result = [result.ratios(measure) for _, measure in ratios]
        relative.rows.append([result.contender, *(spread(some) if some else "" for some in of_result)])
    relative.notes += filter(None, (_company(results), limit_note(results)))
    return [absolute, relative]


def short(results: Sequence[Result], baseline: str) -> Table:
    """The ratios that matter most, by requests at the same time; prompts of all results have the same length."""
    counts = list(dict.fromkeys(result.streams for result in results))
    by_place = {(result.contender, result.streams): result for result in results}
    table = Table(f"In short, as ratios to {baseline} (lowest to highest)", ["at the same time", *map(str, counts)])
    for contender, measure, title in _SHORT:
        found = [by_place.get((contender, count)) for count in counts]
        ratios = [result.ratios(measure) if result else [] for result in found]
        if any(ratios):
            table.rows.append([f"{contender}: {title}", *(spread(some) if some else "" for some in ratios)])
    return table


def pictures(results: Sequence[Result]) -> list[Picture]:
    """The measures that are worth a look; prompts of different lengths are lines of their own."""
    several = len({result.prompt_tokens for result in results}) > 1
    named = [
        (f"{result.contender}, prompts of {result.prompt_tokens}" if several else result.contender, result)
        for result in results
    ]
    return [
        picture(
            file,
            label,
            ((name, result.streams, [factor * value for value in result.values(measure)]) for name, result in named),
        )
        for file, label, measure, factor in _PICTURES
    ]


def memory_table(results: Sequence[Result]) -> Table:
    """The most that each process of each server had resident in all loads; pages that are shared count in each."""
    table = Table("Peak memory of each process (resident), MB", ["server", "process", "MB"])
    for contender in dict.fromkeys(result.contender for result in results):
        samples = [sample for result in results if result.contender == contender for sample in result.samples]
        names = dict.fromkeys(name for sample in samples for name in sample.peaks)
        for name in names:
            most = max(sample.peaks.get(name, 0) for sample in samples)
            table.rows.append([contender, name, f"{most / 1e6:.0f}"])
    return table


def _company(results: Sequence[Result]) -> str:
    """Who else had the processor during the loads."""
    samples = [sample for result in results for sample in result.samples]
    idle = [sample.idle_cores for sample in samples if sample.idle_cores is not None]
    others = [sample.bystander_cores for sample in samples if sample.bystander_cores is not None]
    parts = [f"the servers without load took {spread(idle)} cores"] if idle else []
    parts.append(f"other programs {spread(others)}" if others else "what other programs took is unknown")
    return f"Meanwhile {', '.join(parts)}."


def limit_note(results: Sequence[Result]) -> str:
    """How near each server comes to the engine without any, in a sentence; empty if that was not measured."""
    by_name = {result.contender: result.values("tokens_per_second") for result in results}
    limit = next((name for name in (ENGINE, ENGINE + NOT_STREAMED) if name in by_name), None)
    if limit is None:
        return ""
    shares = [
        f"{name} {statistics.median(mine / its for mine, its in zip(speeds, by_name[limit], strict=True)):.2f}"
        for name, speeds in by_name.items()
        if name not in (limit, FLOOR, FLOOR_PACED)
    ]
    return f"Of what the {limit} does, tokens/s: {', '.join(shares)}."


def parts(results: Sequence[Result], baseline: str) -> Table | None:
    """What processor time outside the engine is made of: vLLM's front end without a server, which hands out each token
    by itself, and Triton's responses without an engine. None: not measured.

    Args:
        results: Of all contenders, with prompts of the same length.
        baseline: Name of the one that the sum of both is compared with.
    """
    columns = ["at the same time", "vLLM's front end", "Triton's responses", "sum"]
    columns += [HTTP, f"{HTTP}, to the sum", baseline, f"sum, to {baseline}"]
    table = Table("Processor time outside the engine and its parts, s for 1,000 tokens", columns)
    by_place = {(result.contender, result.streams): result for result in results}
    for streams in dict.fromkeys(result.streams for result in results):
        found = [by_place.get((name, streams)) for name in (ENGINE, FLOOR_PACED, HTTP, baseline)]
        used = [result.values("other_cpu_per_1000_tokens") if result else [] for result in found]
        if all(used):
            front, path, ours, theirs = used
            both = [one + other for one, other in zip(front, path, strict=True)]
            absolute = [_median(some, 1, 3) for some in (front, path, both, ours, theirs)]
            to_sum = spread([mine / sum_ for mine, sum_ in zip(ours, both, strict=True)])
            to_theirs = spread([sum_ / its for sum_, its in zip(both, theirs, strict=True)])
            table.rows.append([str(streams), *absolute[:4], to_sum, absolute[4], to_theirs])
    return table if table.rows else None


def start_table(starts: Mapping[str, Sequence[float]], baseline: str) -> Table:
    """Seconds from a server's command to its readiness."""
    table = Table("From the command to ready, s", ["", "s", f"ratio to {baseline}"])
    for name, seconds in starts.items():
        ratios = [mine / its for mine, its in zip(seconds, starts[baseline], strict=True)]
        table.rows.append([name, spread(seconds, 1), spread(ratios)])
    return table


def _median(values: Sequence[float], factor: float, digits: int) -> str:
    return f"{factor * statistics.median(values):.{digits}f}" if values else ""


def as_json(findings: Findings, machine: str, tokens: int) -> dict[str, Any]:
    """Everything, with the median ratios. `tokens`: of each answer."""
    return {
        "machine": machine,
        "tokens": tokens,
        "starts": findings.starts,
        "results": [
            {
                "contender": result.contender,
                "prompt_tokens": result.prompt_tokens,
                "streams": result.streams,
                "rounds": [asdict(sample) for sample in result.samples],
                "ratios": {
                    measure: statistics.median(ratios) for measure in MEASURES if (ratios := result.ratios(measure))
                },
            }
            for result in findings.results
        ],
    }
