"""What the benchmark's commands share: words to a person, an end in order, and where the report goes."""

import signal
from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks.errors import BenchmarkError, DrawingFailed
from benchmarks.report import Report
from launcher.layout import shown

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def say(line: str) -> None:
    """Tells a person what goes on."""
    _console.print(f"benchmark: {escape(line)}")


def require_folder(option: str, file: Path | None) -> None:
    """Looks whether a file that an option names can be written at the end.

    Raises:
        typer.BadParameter: Its folder is not there.
    """
    if file is not None and not file.resolve().parent.is_dir():
        raise typer.BadParameter(f"{file}: no such folder", param_hint=option)


def counts(option: str, given: str) -> list[int]:
    """How many requests at the same time an option asks for.

    Raises:
        typer.BadParameter: It is anything else than different whole numbers from 1 to 1024, with commas.
    """
    numbers = given.split(",")
    if not all(number.isdecimal() and 1 <= int(number) <= 1024 for number in numbers):
        raise typer.BadParameter(f"{given}: must be whole numbers from 1 to 1024, with commas", param_hint=option)
    if len(set(map(int, numbers))) < len(numbers):
        raise typer.BadParameter(f"{given}: there is a number twice", param_hint=option)
    return [int(number) for number in numbers]


def run(measure: Callable[[], None]) -> int:
    """The exit code; what fails is told, and Ctrl-C and SIGTERM both end it in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs have ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        measure()
    except (BenchmarkError, DrawingFailed) as error:
        _console.print(f"[bold red]benchmark:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


def deliver(report: Report, output: Path | None) -> None:
    """Shows the report, and writes it to a file as Markdown."""
    report.show()
    if output is not None:
        output.write_text(report.markdown() + "\n")
        say(f"written to {shown(output.resolve())}")
