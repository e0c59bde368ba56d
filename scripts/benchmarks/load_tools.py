"""The programs that make a load, run for a bounded time, and what perf_analyzer saw of each request."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.errors import BenchmarkError, UnreadableProfile
from launcher.layout import ROOT

_Found = TypeVar("_Found")

_PERF_ANALYZER = str(ROOT / "scripts/perf_analyzer")
_FETCH_TIMEOUT = 600.0  # seconds for perf_analyzer to be there, which the first use installs
_TRIES = 5
GRACE = 120.0
"""Seconds that a load may take beyond what it should."""


def run(command: Sequence[str], seconds: float, variables: Mapping[str, str] | None = None) -> str:
    """What a tool printed that makes a load for about so many seconds.

    Raises:
        BenchmarkError: It failed, or did not end within two minutes after that.
    """
    try:
        ended = subprocess.run(
            command,
            env=os.environ | (variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",  # a body's end may begin within a character
            timeout=seconds + GRACE,
        )
    except subprocess.TimeoutExpired as late:
        raise BenchmarkError(f"{command[0]} did not end within {late.timeout:.0f} s") from None
    if ended.returncode:
        raise BenchmarkError(f"{command[0]} failed: {(ended.stderr or ended.stdout)[-500:]}")
    return ended.stdout


def require_perf_analyzer() -> None:
    """Has perf_analyzer there before anything is measured.

    Raises:
        BenchmarkError: It cannot be installed, or does not run.
    """
    run([_PERF_ANALYZER, "--version"], _FETCH_TIMEOUT)


def profile(
    name: str, options: Sequence[str], requests: Sequence[Mapping[str, Any]], in_flight: int, seconds: float
) -> list[dict[str, Any]]:
    """Sends every request once, `in_flight` of them always under way, with perf_analyzer.

    Args:
        name: Who is under load, for errors.
        options: Of perf_analyzer: which model, where, how.
        requests: What is sent, in the format of its input data.
        in_flight: Requests at the same time.
        seconds: That it takes about.

    Returns:
        perf_analyzer's own account of each, times in nanoseconds.

    Raises:
        UnreadableProfile: It did not finish its file; another try may do.
        BenchmarkError: A request was not answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, file = Path(folder) / "input.json", Path(folder) / "profile.json"
        data.write_text(json.dumps({"data": requests}))
        command = [_PERF_ANALYZER, *options, "--async", "--input-data", str(data)]
        command += ["--concurrency-range", str(in_flight), "--request-count", str(len(requests))]
        output = run([*command, "--profile-export-file", str(file)], seconds)
        if not file.is_file():
            raise BenchmarkError(f"{name}: perf_analyzer left no profile: {output[-500:]}")
        found = read_profile(name, file)
    if not found or not all(request.get("response_timestamps") for request in found):
        raise BenchmarkError(f"{name}: a request of perf_analyzer had no answer: {output[-500:]}")
    return found


def read_profile(name: str, file: Path) -> list[dict[str, Any]]:
    """The requests of perf_analyzer's profile.

    Raises:
        UnreadableProfile: It is cut off, or empty. perf_analyzer 2.51 writes a number for the FP32 output that no
            response of a text model had, out of memory that nothing was put into; a NaN there seems to be what ends
            the file.
    """
    try:
        text = file.read_text(errors="replace")  # images are in it as they are
        return list(json.loads(text)["experiments"][0]["requests"])
    except (ValueError, LookupError, TypeError) as error:
        raise UnreadableProfile(f"{name}: perf_analyzer's profile cannot be read: {error}") from error


def persistently(attempt: Callable[[], _Found], say: Callable[[str], None]) -> _Found:
    """What a measurement finds that may fail because of its tool.

    Raises:
        BenchmarkError: It failed otherwise, or too often.
    """
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except UnreadableProfile as error:
            say(f"{error}: once more")
    return attempt()
