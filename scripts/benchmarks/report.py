"""What was measured, as tables: for a person on a terminal, as Markdown in a file or a pipe."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable


@dataclass
class Table:
    """Rows of text under a title, and below them what a reader has to know."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    title: str = ""
    machine: str = ""
    """What it was measured on."""
    tables: list[Table] = field(default_factory=list)

    def show(self) -> None:
        """Print it to standard output."""
        console = Console()
        if not console.is_terminal:
            print(self.markdown())
            return
        console.print(self.machine)
        for table in self.tables:
            drawn = RichTable(title=table.title, title_justify="left", title_style="bold")
            for number, column in enumerate(table.columns):
                drawn.add_column(column, justify="right" if number else "left")
            for row in table.rows:
                drawn.add_row(*row)
            console.print()
            console.print(drawn)
            for note in table.notes:
                console.print(note, style="dim", highlight=False)

    def markdown(self) -> str:
        lines = [f"# {self.title}", "", self.machine] if self.title else [self.machine]
        for table in self.tables:
            lines += ["", f"**{table.title}**", "", _row(table.columns), _row(["---"] * len(table.columns))]
            lines += [_row(row) for row in table.rows]
            lines += [line for note in table.notes for line in ("", note)]
        return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median and, of several, the lowest and the highest."""
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def judged(
    values: Sequence[float], bound: float, *, at_most: bool = False, unit: str = "", digits: int = 2
) -> list[str]:
    """A bound for the median, in words, and whether it is met."""
    middle = statistics.median(values)
    is_met = middle <= bound if at_most else middle >= bound
    return [f"{bound:.{digits}f}{unit} or {'less' if at_most else 'more'}", "met" if is_met else "not met"]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
