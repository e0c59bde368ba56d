"""What was measured as pictures: a measure each, by requests at the same time, a line for each contender."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.text.comparison import Result

# File, measure, factor to the unit shown, label.
_PICTURES = [
    ("tokens", "tokens_per_second", 1, "tokens/s"),
    ("first", "first_response_p99", 1000, "time to the first text, 99th percentile, ms"),
    ("gaps", "gap_p99", 1000, "gap between two responses, 99th percentile, ms"),
    ("processor", "cpu_per_1000_tokens", 1, "processor time, s per 1000 tokens"),
]


def require(folder: Path) -> None:
    """Looks for what draws, which nothing else here needs, and makes the folder for it.

    Raises:
        BenchmarkError: matplotlib is not installed, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchmarkError(f"--plots {folder}: {error.strerror}") from error
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BenchmarkError(
            "--plots needs matplotlib: .run/uv-venv/bin/uv pip install --python .venv/bin/python matplotlib"
        ) from None


def draw(results: Sequence[Result], machine: str, folder: Path) -> list[Path]:
    """PNG files in `folder`; of measures that nobody has there is none.

    Args:
        results: Of any counts of streams.
        machine: What they were measured on, for the foot of each picture.
        folder: Where the pictures go; those of an earlier run are replaced.
    """
    drawn = []
    for name, measure, factor, label in _PICTURES:
        lines = _lines(results, measure, factor)
        if lines:
            drawn.append(folder / f"{name}.png")
            _picture(lines, label, machine).savefig(drawn[-1], dpi=120)
    return drawn


def _lines(results: Sequence[Result], measure: str, factor: float) -> dict[str, dict[int, list[float]]]:
    """The rounds' values by contender and count of streams."""
    lines: dict[str, dict[int, list[float]]] = {}
    several = len({result.prompt_tokens for result in results}) > 1
    for result in results:
        values = [factor * value for value in result.values(measure)]
        if values:
            name = f"{result.contender}, prompts of {result.prompt_tokens}" if several else result.contender
            lines.setdefault(name, {})[result.streams] = values
    return lines


def _picture(lines: dict[str, dict[int, list[float]]], label: str, machine: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for contender, points in lines.items():
        streams = sorted(points)
        middle = [statistics.median(points[count]) for count in streams]
        below = [median - min(points[count]) for count, median in zip(streams, middle, strict=True)]
        above = [max(points[count]) - median for count, median in zip(streams, middle, strict=True)]
        axes.errorbar(streams, middle, yerr=[below, above], marker="o", capsize=4, label=contender)
    counts = sorted({count for points in lines.values() for count in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("requests at the same time")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.supxlabel(f"{machine}. Medians, lowest and highest of the rounds.", fontsize=7)
    return figure
