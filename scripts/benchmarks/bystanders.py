"""How busy programs outside the benchmark keep the machine, which is what makes its numbers worse than they are."""

import os
import time

import psutil

from benchmarks.server import Server
from launcher import processes, state


class Bystanders:
    """Counts the processor time that goes neither to this process nor to the server, nor is idle.

    Args:
        server: One that the launcher started on this machine; of any other nothing is known.
    """

    def __init__(self, server: Server) -> None:
        self._launcher = state.read(server.repository.parent / "state.json")
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._began, self._used = time.monotonic(), self._now()

    @property
    def cores(self) -> str:
        """How many processor cores they took on average."""
        if self._launcher is None:
            return "unknown"
        share = (self._now() - self._used) / (time.monotonic() - self._began)
        return f"{max(0.0, share):.1f}"

    def _now(self) -> float:
        """Their processor time so far, in seconds from an arbitrary start."""
        if self._launcher is None:
            return 0.0
        machine = psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq + machine.steal
        ours = {os.getpid(), self._launcher.launcher.pid}
        ours |= {process.pid for process in processes.descendants(self._launcher.launcher.pid)}
        return busy - sum(map(_used_by, ours))


def _used_by(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
