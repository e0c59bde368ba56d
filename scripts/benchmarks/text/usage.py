"""What a load costs a server's processes: processor time and memory, the engine's own apart from the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

# The titles that vLLM gives its engine's processes: the scheduler, and the model where it has processes of its own, as
# in `vllm serve` on a CPU.
_ENGINE = ("VLLM::EngineCore", "VLLM::Worker")


@dataclass(frozen=True)
class Usage:
    """Of a tree of processes, since some moment in their past."""

    engine_seconds: float
    """Processor time of vLLM's engine, which is the same in every server."""
    other_seconds: float
    """Processor time of everything else: HTTP, tokens to text, responses."""
    memory: int
    """Bytes of the proportional set size of all processes now."""
    peaks: dict[str, int]
    """Bytes that each process has had resident at most; those of the same name added up."""

    def since(self, earlier: "Usage") -> "Usage":
        """What has been used between two moments."""
        return Usage(
            self.engine_seconds - earlier.engine_seconds,
            self.other_seconds - earlier.other_seconds,
            self.memory,
            self.peaks,
        )


def of_tree(pid: int) -> Usage:
    """Of a process and all its descendants; of one that has ended nothing."""
    engine = other = 0.0
    memory = 0
    peaks: dict[str, int] = {}
    for process in _tree(pid):
        try:
            times = process.cpu_times()
            seconds = times.user + times.system
            memory += process.memory_full_info().pss
            name = name_of(process.cmdline())
            peaks[name] = peaks.get(name, 0) + _peak(process.pid)
            if name.startswith(_ENGINE):
                engine += seconds
            else:
                other += seconds
        except (psutil.Error, OSError):
            continue  # it has ended
    return Usage(engine, other, memory, peaks)


def name_of(command: list[str]) -> str:
    """What a process is called for people: its program, or what Python runs."""
    program, *arguments = [part for part in command if part] or ["?"]
    name = Path(program).name if program.startswith(("/", ".")) else program.strip()
    if name.startswith("python"):
        text = " ".join(arguments)
        known = ("resource_tracker", "vllm serve", "fictures gateway", "launcher", "benchmarks.text.in_process")
        return next((each for each in known if each in text.replace("/vllm ", " vllm ")), name)
    return name


def _tree(pid: int) -> Iterable[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _peak(pid: int) -> int:
    """Bytes; 0 of a process that is ending."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
