"""A page that shows a run in short, such as docs/performance.md: the run puts its table in place of the last one's."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import Report
from launcher.layout import shown

Page = Annotated[
    Path | None,
    typer.Option(
        "--page", exists=True, dir_okay=False, help="Put the short table into this page, such as docs/performance.md."
    ),
]
"""The option of the commands."""


def require(page: Path | None, place: str) -> None:
    """Looks whether a page has such a place.

    Raises:
        typer.BadParameter: It has not.
    """
    if page is not None:
        begin, end = _marks(place)
        if end not in page.read_text().partition(begin)[2]:
            raise typer.BadParameter(f"{page}: has no {begin} and {end} after it", param_hint="--page")


def deliver(page: Path | None, place: str, report: Report, say: Callable[[str], None]) -> None:
    """Puts it into a page, if there is one, and tells a person."""
    if page is not None:
        put(page, place, report)
        say(f"{shown(page.resolve())} has the numbers in short")


def put(page: Path, place: str, report: Report) -> None:
    """Replaces what stands at a place that `require` has found; the rest of the page stays."""
    begin, end = _marks(place)
    before, _, after = page.read_text().partition(begin)
    rest = after.partition(end)[2]
    page.write_text(f"{before}{begin}\n{report.markdown()}\n\n{end}{rest}")


def _marks(place: str) -> tuple[str, str]:
    return f"<!-- {place} in short -->", f"<!-- end of {place} in short -->"
