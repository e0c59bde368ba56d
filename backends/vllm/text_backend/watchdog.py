"""Ends an engine's processes that came to a standstill while they were started.

A copy of a process with threads can wait for ever for what only the original has, and vLLM waits for its engine
without limit, or for ten minutes. How long a start takes depends on model and machine, so it is not time that tells a
standstill but that no processor is used: reading weights, compiling and warming up use one all the while.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

import psutil

_INTERVAL = 1.0  # seconds between two looks
_A_LITTLE = 0.2  # seconds of a processor: waiting processes wake now and then, too


class Stalled(Exception):
    """The processes stood still, and were ended."""


@contextlib.contextmanager
def ended_when_stalled(patience: float, interval: float = _INTERVAL) -> Iterator[None]:
    """Ends the child processes that the block starts, when they have used no processor for `patience` seconds.

    Raises:
        Stalled: They were, whatever became of the block.
    """
    before = set(psutil.Process().children())
    done, ended = threading.Event(), threading.Event()

    def watch() -> None:
        used, since = 0.0, time.monotonic()
        while not done.wait(interval):
            started = set(psutil.Process().children()) - before
            now = sum(map(_processor_seconds, started))
            if now - used > _A_LITTLE or not started:
                used, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                ended.set()
                for process in started:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                return

    watching = threading.Thread(target=watch, name="start-watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
        if ended.is_set():
            raise Stalled("the engine's processes stood still while they were started")


def _processor_seconds(process: psutil.Process) -> float:
    """Of a process and all below it, those that have ended among them: a sum that never goes down."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total
