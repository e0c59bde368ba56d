"""How long a server takes from its command to ready."""

import time
from collections.abc import Callable

from benchmarks import server
from benchmarks.text import vllm_serve


def compare(baseline: str, rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of each round, by name: both servers' own, with the text model alone, one after the other.

    Each had its caches filled by an earlier start. The first one waits without load while the second one starts.

    Raises:
        BenchmarkError: One does not start or does not stop.
    """
    found: dict[str, list[float]] = {"scripts/serve": [], baseline: []}
    for number in range(-1, rounds):
        say("starting both to fill their caches" if number < 0 else f"start {number + 1} of {rounds}")
        began = time.monotonic()
        with server.own(say, SERVE="text") as ours:
            own_seconds = time.monotonic() - began
            began = time.monotonic()
            with vllm_serve.running(ours, say):
                its_seconds = time.monotonic() - began
        if number >= 0:
            found["scripts/serve"].append(own_seconds)
            found[baseline].append(its_seconds)
    return found
