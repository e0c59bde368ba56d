"""What was measured as pictures: a measure each, by requests at the same time, a line for each contender."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.errors import BenchmarkError
from launcher.layout import shown

PlotsFolder = Annotated[
    Path | None, typer.Option("--plots", file_okay=False, help="Draw the numbers as PNG files in this folder.")
]
"""The option of the commands."""


@dataclass(frozen=True)
class Picture:
    """One measure of all contenders."""

    name: str
    """Of the file, without its ending."""
    label: str
    """The measure and its unit."""
    lines: Mapping[str, Mapping[int, Sequence[float]]]
    """The rounds' values by contender and count of requests at the same time."""


def picture(name: str, label: str, points: Iterable[tuple[str, int, Sequence[float]]]) -> Picture:
    """Out of contender, count of requests at the same time and the rounds' values; a point without any is left out."""
    lines: dict[str, dict[int, Sequence[float]]] = {}
    for contender, count, values in points:
        if values:
            lines.setdefault(contender, {})[count] = values
    return Picture(name, label, lines)


def require(folder: Path | None) -> None:
    """Looks for what draws, which nothing else here needs, and makes the folder for it, if there is to be one.

    Raises:
        BenchmarkError: matplotlib is not installed, or the folder cannot be made.
    """
    if folder is None:
        return
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


def deliver(pictures: Iterable[Picture], machine: str, folder: Path | None, say: Callable[[str], None]) -> None:
    """Draws them, if there is a folder, and tells a person."""
    if folder is not None:
        for file in draw(pictures, machine, folder):
            say(f"drawn: {shown(file.resolve())}")


def draw(pictures: Iterable[Picture], machine: str, folder: Path) -> list[Path]:
    """PNG files in `folder`; of measures that nobody has there is none.

    Args:
        pictures: Of any counts of requests at the same time.
        machine: What they were measured on, for the foot of each picture.
        folder: Where the pictures go; those of an earlier run are replaced.
    """
    drawn = []
    for picture in pictures:
        if picture.lines:
            drawn.append(folder / f"{picture.name}.png")
            _figure(picture, machine).savefig(drawn[-1], dpi=120)
    return drawn


def _figure(picture: Picture, machine: str) -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)
    for contender, points in picture.lines.items():
        counts = sorted(points)
        middle = [statistics.median(points[count]) for count in counts]
        below = [median - min(points[count]) for count, median in zip(counts, middle, strict=True)]
        above = [max(points[count]) - median for count, median in zip(counts, middle, strict=True)]
        axes.errorbar(counts, middle, yerr=[below, above], marker="o", capsize=4, label=contender)
    all_counts = sorted({count for points in picture.lines.values() for count in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(all_counts, [str(count) for count in all_counts])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("requests at the same time")
    axes.set_ylabel(picture.label)
    axes.set_yscale("log")  # the same ratio is the same distance, whoever is twice as fast
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.supxlabel(f"{machine}. Medians, lowest and highest of the rounds.", fontsize=7)
    return figure
