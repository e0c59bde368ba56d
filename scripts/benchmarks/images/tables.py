"""Results as tables for people and as JSON for programs."""

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.images.comparison import IN_FLIGHT, MEASURES, Result
from benchmarks.images.requests import Work
from benchmarks.plots import Picture, picture
from benchmarks.report import Table, judged, spread

_COLUMNS = [
    ("images/s", "images_per_second"),
    ("median, s", "latency_median"),
    ("95th percentile, s", "latency_p95"),
    ("99th percentile, s", "latency_p99"),
    ("images a step", "images_per_step"),
]
_RATIOS = _COLUMNS[:4]
# File, label, measure.
_PICTURES = [
    ("images", "images/s", "images_per_second"),
    ("median", "latency, median, s", "latency_median"),
    ("p99", "latency, 99th percentile, s", "latency_p99"),
    ("occupancy", "images in a denoising step", "images_per_step"),
]
_DERIVED = [
    # System, the one it is compared with, requests at the same time, the least that the ratio of images/s is to be.
    ("engine in process", "plain pipeline", 8, 1.6),
    ("sdxl, gRPC", "engine in process", 8, 0.97),
    ("sdxl, HTTP", "sdxl, gRPC", 8, None),
    ("gateway", "sdxl, gRPC", 8, None),
    ("sdxl, gRPC, perf_analyzer", "sdxl, gRPC", 1, None),
    ("sdxl, gRPC, perf_analyzer", "sdxl, gRPC", 8, None),
]


def closed_loop_tables(results: Sequence[Result], baselines: Sequence[str], work: Work, rounds: int) -> list[Table]:
    """What was measured with one count of requests at the same time, and the ratios to each of `baselines`."""
    return _tables(f"{results[0].load} at the same time, {_alike(work)}", results, baselines, rounds)


def arrivals_tables(
    results: Sequence[Result], baselines: Sequence[str], work: Work, rate: float, share: float, rounds: int
) -> list[Table]:
    """The same with arrivals at `rate` a second, which is `share` of what the results name."""
    title = f"Arrivals at {share:.0%} of {results[0].load}, {rate:.2f}/s, {_mixed(work)}"
    found = _tables(title, results, baselines, rounds)
    found[0].notes += _failures(results)
    return found


def _tables(title: str, results: Sequence[Result], baselines: Sequence[str], rounds: int) -> list[Table]:
    absolute = Table(f"{title}; medians of {rounds} rounds", ["", *(column for column, _ in _COLUMNS)])
    for result in results:
        absolute.rows.append([result.system, *(_cell(result.values(measure)) for _, measure in _COLUMNS)])
    absolute.notes.append(_company(results))
    found = [absolute]
    for baseline in (result for result in results if result.system in baselines):
        columns = ["", *(column.removesuffix(", s") for column, _ in _RATIOS)]
        relative = Table(f"{title}, as ratios to {baseline.system} (lowest to highest)", columns)
        for result in results:
            if result is not baseline:
                ratios = [result.ratios(measure, baseline) for _, measure in _RATIOS]
                relative.rows.append([result.system, *map(_cell, ratios)])
        found.append(relative)
    return found


def short(results: Sequence[Result], baseline: str, work: Work) -> Table:
    """Images/s in closed loops, and as ratios to the baseline, by requests at the same time."""
    loops = [result for result in results if result.load.isdecimal()]
    counts = list(dict.fromkeys(result.load for result in loops))
    by_place = {(result.system, result.load): result for result in loops}
    table = Table(f"In short: images/s, {_alike(work)}; ratio to the {baseline}", ["at the same time", *counts])
    for system in dict.fromkeys(result.system for result in loops):
        cells = [_with_ratio(by_place[system, count], by_place[baseline, count]) for count in counts]
        table.rows.append([system, *cells])
    return table


def derived(results: Sequence[Result], work: Work) -> Table:
    """Images/s of neighbours on an image's way, each as a ratio to the one below it."""
    table = Table(
        f"From layer to layer: images/s, {_alike(work)}", ["", "at a time", "ratio (lowest to highest)", "target", ""]
    )
    by_name = {(result.system, result.load): result for result in results}
    for name, baseline, concurrency, target in _DERIVED:
        mine, its = (by_name.get((system, str(concurrency))) for system in (name, baseline))
        if mine is not None and its is not None:
            ratios = mine.ratios("images_per_second", its)
            verdict = ["", ""] if target is None else judged(ratios, target)
            table.rows.append([f"{name} / {baseline}", str(concurrency), spread(ratios), *verdict])
    return table


def capacity_table(results: Sequence[Result], work: Work) -> Table:
    """What the arrivals are a part of."""
    table = _side_by_side(f"Capacity: {_mixed(work)}, {IN_FLIGHT} requests always under way", results)
    table.rows.append(_compared("images/s", results, "images_per_second"))
    return table


def two_under_arrivals(results: Sequence[Result], work: Work, rate: float, share: float) -> Table:
    """Latencies of two systems under arrivals at `rate` a second, `share` of the capacity that the results name."""
    title = f"Latency: {_mixed(work)}, arrivals at {share:.0%} of {results[0].load}, {rate:.2f}/s"
    table = _side_by_side(title, results)
    table.rows += [
        _compared(column, results, measure, less_is_better=True)
        for column, measure in _COLUMNS
        if measure.startswith("latency")
    ]
    table.rows.append(["requests", *map(_counts, results), ""])
    table.notes.append(_company(results))
    table.notes += _failures(results)
    return table


def pictures(results: Sequence[Result]) -> list[Picture]:
    """Everything of the closed loops."""
    loops = [result for result in results if result.load.isdecimal()]
    return [
        picture(file, label, ((result.system, int(result.load), result.values(measure)) for result in loops))
        for file, label, measure in _PICTURES
    ]


def difference(files: Mapping[str, bytes]) -> str:
    """How alike all systems draw one request, in a sentence."""
    first, *others = (np.asarray(Image.open(io.BytesIO(file)), dtype=int) for file in files.values())
    most = max((int(np.abs(first - other).max()) for other in others), default=0)
    if most == 0:
        return "A request alone gives the same picture from all, pixel for pixel."
    return f"The pictures that a request alone gives differ from that of {next(iter(files))} by up to {most} of 255."


def as_json(results: Sequence[Result], baseline: str, machine: str, work: Work) -> dict[str, Any]:
    """Everything, with the median ratios to the baseline where there is one under the same load."""
    baselines = {result.load: result for result in results if result.system == baseline}
    return {
        "machine": machine,
        **asdict(work),
        "baseline": baseline,
        "results": [
            {
                "system": result.system,
                "load": result.load,
                "rounds": [_finite(asdict(sample)) for sample in result.samples],
                "ratios": _median_ratios(result, baselines.get(result.load)),
            }
            for result in results
        ],
    }


def _alike(work: Work) -> str:
    return f"{work.side}x{work.side}, {work.steps} steps"


def _mixed(work: Work) -> str:
    return f"{work.side}x{work.side}, {', '.join(map(str, work.mixed_steps))} steps mixed"


def _median_ratios(result: Result, baseline: Result | None) -> dict[str, float]:
    if baseline is None:
        return {}
    return {measure: statistics.median(ratios) for measure in MEASURES if (ratios := result.ratios(measure, baseline))}


def _finite(sample: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the latency of a request that failed is null."""
    return {name: None if value == math.inf else value for name, value in sample.items()}


def _cell(values: Sequence[float]) -> str:
    return spread(values) if values else ""


def _with_ratio(result: Result, baseline: Result) -> str:
    rate = f"{statistics.median(result.values('images_per_second')):.2f}"
    return rate if result is baseline else f"{rate}; {spread(result.ratios('images_per_second', baseline))}"


def _counts(result: Result) -> str:
    """How many requests there were, and how many of them failed."""
    failed = sum(len(sample.errors) for sample in result.samples)
    return f"{sum(sample.requests for sample in result.samples)}, {failed} failed"


def _failures(results: Sequence[Result]) -> list[str]:
    """Why requests failed, a few of the reasons."""
    errors = sorted({error for result in results for sample in result.samples for error in sample.errors})
    return [f"Failed: {error}" for error in errors[:3]]


def _side_by_side(title: str, results: Sequence[Result]) -> Table:
    return Table(title, ["", *(result.system for result in results), "ratio"])


def _compared(name: str, results: Sequence[Result], measure: str, *, less_is_better: bool = False) -> list[str]:
    """A row; the ratio is above 1 if the first is better."""
    ours, theirs = results
    better, worse = (theirs, ours) if less_is_better else (ours, theirs)
    return [name, *(_cell(result.values(measure)) for result in results), spread(better.ratios(measure, worse))]


def _company(results: Sequence[Result]) -> str:
    """Who else had the processor during the loads."""
    others = [
        sample.bystander_cores for result in results for sample in result.samples if sample.bystander_cores is not None
    ]
    return f"Other programs took {spread(others)} cores." if others else "What other programs took is unknown."
