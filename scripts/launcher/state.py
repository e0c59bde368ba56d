"""`.run/<instance>`: one launcher at a time; `state.json` says what runs, and what to clean up should it die."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launcher import processes, shared_memory
from launcher.errors import LaunchError
from launcher.layout import Instance
from launcher.processes import Identity
from launcher.shared_memory import Segment

TEMPORARY_PREFIX = "/tmp/fictures-"


@dataclass
class State:
    """One run of an instance. `status` is starting, ready, restarting or stopped."""

    status: str
    ports: Mapping[str, int]
    launcher: Identity
    shm_prefix: str
    temporary: str
    tritonserver: Identity | None = None
    gateway: Identity | None = None
    descendants: set[Identity] = field(default_factory=set)
    segments: set[Segment] = field(default_factory=set)

    def write(self, path: Path) -> None:
        """Replace the file in one step: a reader sees the old state or the new one."""
        content = {
            "status": self.status,
            "ports": dict(self.ports),
            "launcher": self.launcher._asdict(),
            "tritonserver": self.tritonserver._asdict() if self.tritonserver else None,
            "gateway": self.gateway._asdict() if self.gateway else None,
            "descendants": [process._asdict() for process in sorted(self.descendants)],
            "shm_prefix": self.shm_prefix,
            "shm_segments": [segment._asdict() for segment in sorted(self.segments)],
            "temporary": self.temporary,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(content, indent=2) + "\n")
        draft.replace(path)

    def remove_leftovers(self) -> None:
        """Remove the processes, shared memory and temporary folder of this run; its processes end at once."""
        trees = [processes.descendants(process.pid) for process in self.descendants if process.alive]
        processes.kill(process for process in (self.tritonserver, self.gateway) if process)
        processes.end(self.descendants.union(*trees))
        shared_memory.remove(self.segments, self.shm_prefix)
        if self.temporary.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(self.temporary, ignore_errors=True)


def read(path: Path) -> State | None:
    """The state an earlier run left; None if there is none that makes sense."""
    try:
        content = json.loads(path.read_text())
        return State(
            status=content["status"],
            ports=content["ports"],
            launcher=Identity(**content["launcher"]),
            shm_prefix=content["shm_prefix"],
            temporary=content["temporary"],
            tritonserver=Identity(**content["tritonserver"]) if content["tritonserver"] else None,
            gateway=Identity(**content["gateway"]) if content.get("gateway") else None,
            descendants={Identity(**process) for process in content["descendants"]},
            segments={Segment(**segment) for segment in content["shm_segments"]},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def sole_owner(instance: Instance) -> Iterator[None]:
    """Own the instance's folder for the time of the block; the kernel ends that with the launcher.

    Raises:
        LaunchError: Another launcher owns it.
    """
    instance.folder.mkdir(parents=True, exist_ok=True)
    with instance.lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            stop = f"stop it with `kill {pid}`" if pid else "stop it"
            raise LaunchError(
                f"TRITON_HTTP_PORT={instance.http_port}: this server already runs{f' (pid {pid})' if pid else ''}: "
                f"{stop}, or set other ports to start a second one"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def clean_up_after_crash(path: Path) -> bool:
    """Remove what a run that was killed left behind; False if there was nothing to do. Call as its sole owner."""
    left = read(path)
    if left is None or left.status == "stopped":
        return False
    left.remove_leftovers()
    return True
