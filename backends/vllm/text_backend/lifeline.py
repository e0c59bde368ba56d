"""Ties processes to the life of their parent, so that no engine outlives its server and keeps the memory.

Linux's PR_SET_PDEATHSIG (prctl(2)) makes the kernel kill a process when the *thread* that started it ends, so
it is set only where that thread lives as long as its process does: in the engine processes, which the engine's
event loop thread starts, and in the workers they start. Triton starts the backend's own process (the stub) from
a thread that ends, so the stub watches its parent through a pidfd instead. That watch is a Python thread: it
does not help a stub that holds Python's lock while it waits for a server that is gone. The launcher ends those.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import threading

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_forking_pid = 0


def _die_with(parent_pid: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def _before_fork() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


def bind_forks() -> None:
    """From now on every process forked from this one, and from those, dies with its parent."""
    os.register_at_fork(before=_before_fork, after_in_child=lambda: _die_with(_forking_pid))


def bind_to_parent() -> None:
    """vLLM's plugin hook, called in each of its processes: covers those that were spawned, not forked."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        _die_with(parent.pid)


def follow_parent() -> None:
    """Ends this process, and with it all that is bound to it, as soon as its parent has ended."""
    parent = os.pidfd_open(os.getppid())

    def watch() -> None:
        poll = select.poll()
        poll.register(parent, select.POLLIN)
        poll.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def end_within(seconds: int) -> None:
    """The kernel ends this process if it still lives after `seconds`.

    For a process that has finished: Python's own exit waits for threads and children without limit, and Triton for it.
    """
    signal.alarm(seconds)
