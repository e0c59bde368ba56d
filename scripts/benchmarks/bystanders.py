"""How busy programs outside the benchmark keep the machine, which is what makes its numbers worse than they are."""

import os
import resource
import time

import psutil

from benchmarks.server import Server
from launcher import processes, state


class Bystanders:
    """Counts the processor time that goes neither to this process and its tools nor to the servers, nor is idle.

    Args:
        servers: Processes whose whole trees are measured; None among them: one is elsewhere, so nothing is known.
    """

    def __init__(self, *servers: int | None) -> None:
        self._servers = None if None in servers else {pid for pid in servers if pid is not None}
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._began, self._used = time.monotonic(), self._now()

    @property
    def share(self) -> float | None:
        """How many processor cores they took on average; None: not known."""
        if self._servers is None:
            return None
        return max(0.0, (self._now() - self._used) / (time.monotonic() - self._began))

    def _now(self) -> float:
        """Their processor time so far, in seconds from an arbitrary start."""
        if self._servers is None:
            return 0.0
        machine = psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq + machine.steal
        ours = {os.getpid(), *self._servers}
        ours |= {process.pid for pid in ours for process in processes.descendants(pid)}
        tools = resource.getrusage(resource.RUSAGE_CHILDREN)  # those that have ended
        return busy - sum(map(_used_by, ours)) - tools.ru_utime - tools.ru_stime


def beside(server: Server) -> Bystanders:
    """Those of a server that the launcher started on this machine; of any other nothing is known."""
    launcher = state.read(server.repository.parent / "state.json")
    return Bystanders(launcher.launcher.pid if launcher else None)


def _used_by(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
