"""Finds and removes the shared memory our processes leave in /dev/shm, and nobody else's.

Triton's segments carry a prefix of this run. vLLM's and Python's have random names, so they are ours only if
one of our processes was seen with the very file (name and inode) mapped.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SHM = Path("/dev/shm")


class Segment(NamedTuple):
    """A file in /dev/shm."""

    name: str
    inode: int


def mapped_by(pids: Iterable[int]) -> set[Segment]:
    """The segments that these processes have mapped."""
    found = set()
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        except OSError:
            continue
        for line in maps.splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith(f"{SHM}/") and not fields[5].endswith(" (deleted)"):
                found.add(Segment(fields[5].removeprefix(f"{SHM}/"), int(fields[4])))
    return found


def remove(segments: Iterable[Segment], prefix: str = "") -> int:
    """Remove `segments` where they still are the same files, and all that start with `prefix`; how many."""
    removed = 0
    for name, inode in segments:
        path = SHM / name
        with suppress(FileNotFoundError):
            if path.stat().st_ino == inode:
                path.unlink()
                removed += 1
    for path in SHM.glob(f"{prefix}*") if prefix else ():
        path.unlink(missing_ok=True)
        removed += 1
    return removed
