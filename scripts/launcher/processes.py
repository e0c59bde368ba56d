"""The one place that starts and ends processes, so that none outlives the launcher.

Three nets, each for what the one before misses: a stop ends the whole tree by pid; a launcher that is
killed has its children end (`PR_SET_PDEATHSIG`); orphans of a dead child come to the launcher
(`PR_SET_CHILD_SUBREAPER`), which ends them too.

The signal of the second net is SIGTERM: a Triton that ends in order also ends its stubs. A stub whose server
vanishes may wait for it for ever, with Python's lock held, so that nothing in the stub could notice.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """A process for good: its pid, and its start in clock ticks since boot, as pids are used again."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return identify(self.pid) == self


def identify(pid: int) -> Identity | None:
    """The running process with this pid; None if there is none or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]))


def command_line(pid: int) -> list[str]:
    """The command a process was started with; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def adopt_orphans() -> None:
    """Make the launcher the parent of every descendant whose own parent dies."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(command: list[str], environment: Mapping[str, str], log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that is told to end when the launcher dies, its output going to `log`. Call from the main thread:
    the kernel ties the child's life to the thread that started it.
    """
    launcher = os.getpid()

    def die_with_launcher() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != launcher:  # it died before the line above took effect
            os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which ends the rest in order
            preexec_fn=die_with_launcher,
        )


def descendants(pid: int) -> set[Identity]:
    """Every running process below `pid`, not itself."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return set()
    return {found for child in children if (found := identify(child.pid))}


def kill(processes: Iterable[Identity]) -> None:
    """SIGKILL to each that is still the process it was."""
    for process in processes:
        if process.alive:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def end(tree: Iterable[Identity], patience: float = 3) -> None:
    """Kill processes, and let Python's resource trackers among them end by themselves.

    A tracker ends when all it serves are dead, and then removes the semaphores they left in /dev/shm; nobody else
    knows those names.
    """
    tree = set(tree)
    trackers = {process for process in tree if _is_resource_tracker(process.pid)}
    kill(tree - trackers)
    deadline = time.monotonic() + patience
    while any(process.alive for process in tree) and time.monotonic() < deadline:
        collect(process.pid for process in tree)
        time.sleep(0.05)
    kill(trackers)
    collect(process.pid for process in tree)


def collect(pids: Iterable[int]) -> None:
    """Take the exit status of those that are ended children of this process, so that no zombie stays."""
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _is_resource_tracker(pid: int) -> bool:
    return any("multiprocessing.resource_tracker" in argument for argument in command_line(pid))


def reap_orphans(keep: Iterable[int]) -> None:
    """End and collect adopted processes: children of the launcher that it did not start (not in `keep`)."""
    for child in psutil.Process().children():
        if child.pid in keep:
            continue
        orphan = identify(child.pid)
        if orphan and not _is_resource_tracker(child.pid):
            kill(descendants(child.pid) | {orphan})
        collect([child.pid])


def stop(process: subprocess.Popen[bytes], grace: float) -> bool:
    """SIGTERM, up to `grace` seconds for an orderly end, then SIGKILL for the process and all below it; whether the
    process ended by itself.
    """
    tree = descendants(process.pid)
    if process.poll() is None:
        process.terminate()
        deadline = time.monotonic() + grace
        while process.poll() is None and time.monotonic() < deadline:
            tree |= descendants(process.pid)
            time.sleep(0.1)
    in_order = process.poll() is not None
    if not in_order:
        process.kill()
    process.wait()
    end(tree)
    return in_order
