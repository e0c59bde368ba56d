"""How long a server takes from its command to ready."""

import time
from collections.abc import Callable

from benchmarks import server
from benchmarks.rounds import in_turn
from benchmarks.text import vllm_serve


def compare(baseline: str, rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of each round, by name: both servers' own, with the text model alone.

    Each had its caches filled by an earlier start, and has the machine for itself; who goes first alternates.

    Raises:
        BenchmarkError: One does not start or does not stop.
    """
    with server.own(say, SERVE="text") as ours:
        arguments = vllm_serve.arguments(ours)
        with vllm_serve.running(arguments, say):
            say("both have filled their caches")
    starts = {
        "scripts/serve": lambda: server.own(say, SERVE="text"),
        baseline: lambda: vllm_serve.running(arguments, say),
    }
    found: dict[str, list[float]] = {name: [] for name in starts}
    for number in range(rounds):
        say(f"start {number + 1} of {rounds}")
        for name in in_turn(list(starts), number):
            began = time.monotonic()
            with starts[name]():
                found[name].append(time.monotonic() - began)
    return found
