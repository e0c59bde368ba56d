"""What a load costs a server's processes: processor time and memory, the engine's own apart from the rest."""

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

_ENGINE = ("VLLM::EngineCore", "VLLM::Worker")  # how vLLM titles its engine's processes; on a CPU a worker may be one


@dataclass(frozen=True)
class Usage:
    """Of a tree of processes, since some moment in their past."""

    engine_seconds: float
    """Processor time of vLLM's engine, which is the same in every server."""
    other_seconds: float
    """Processor time of everything else: HTTP, tokens to text, responses."""
    memory: int
    """Bytes of the proportional set size of all processes now."""

    def since(self, earlier: "Usage") -> "Usage":
        """What has been used between two moments."""
        return Usage(
            self.engine_seconds - earlier.engine_seconds, self.other_seconds - earlier.other_seconds, self.memory
        )


def of_tree(pid: int) -> Usage:
    """Of a process and all its descendants."""
    engine = other = 0.0
    memory = 0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
            seconds = times.user + times.system
            memory += process.memory_full_info().pss
            if _is_engine(process):
                engine += seconds
            else:
                other += seconds
        except psutil.Error:
            continue  # it has ended
    return Usage(engine, other, memory)


def _tree(pid: int) -> Iterable[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _is_engine(process: psutil.Process) -> bool:
    return any(part.startswith(_ENGINE) for part in process.cmdline()[:1])
