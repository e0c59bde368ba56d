"""Finds, fetches and checks one model after the other; what `fictures models pull` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fictures.checkpoints import checks, hub
from fictures.checkpoints.configured import Source
from fictures.checkpoints.layouts import Needed, Unsuitable
from fictures.errors import ConfigurationError, FicturesError


@dataclass(frozen=True)
class Found:
    """A model that is there, on the hub or on this machine, and which of its files the server loads."""

    source: Source
    folder: Path
    needed: Needed
    snapshot: hub.Snapshot | None
    """None: the model is a folder or a file of this machine."""
    to_fetch: int
    """Bytes that are not on this machine yet."""

    @property
    def size(self) -> int:
        """Bytes of all its files, once they are there."""
        return sum((self.folder / name).stat().st_size for name in self.needed.files)


def find(source: Source, token: str | None, *, offline: bool = False) -> Found:
    """Look a model up. Of its files only small ones are fetched.

    Args:
        source: Which model.
        token: For the hub; None: its client's own.
        offline: Look into the cache and ask nobody.

    Raises:
        FicturesError: It is not there, may not be fetched, or is none that the server loads.
    """
    try:
        if source.local is not None:
            return _find_here(source, source.local)
        snapshot = hub.cached(source) if offline else hub.look_up(source, token)
        with hub.explained(source, token):
            needed = source.layout(snapshot.files.keys(), lambda name: hub.read_json(snapshot, name, token))
    except Unsuitable as unsuitable:
        hint = " (in the cache; fictures models pull without --check fetches what is missing)" if offline else ""
        raise ConfigurationError([f"{source.setting}={source.name}: {unsuitable}{hint}"]) from None
    return Found(source, snapshot.folder, needed, snapshot, hub.bytes_to_fetch(snapshot, needed.files))


def _find_here(source: Source, place: Path) -> Found:
    if place.is_file():
        folder, names = place.parent, [place.name]
    else:
        folder = place
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    needed = source.layout(names, lambda name: hub.read_object(folder / name))
    return Found(source, folder, needed, None, 0)


def fetch(found: Found, token: str | None) -> None:
    """Fetch what is not there yet. Raises `FicturesError`."""
    if found.snapshot and found.to_fetch:
        hub.fetch(found.snapshot, found.source, found.needed.files, token)


def check(found: Found, token: str | None, *, offline: bool = False) -> None:
    """Look at every file. One that is not what the hub has is fetched once more, unless `offline`.

    Raises:
        FicturesError: Files are missing or damaged; the message names the first.
    """
    expected = found.snapshot.files if found.snapshot else {}
    expected = {name: file for name, file in expected.items() if file.digest}
    wrong = list(checks.wrong_files(found.folder, found.needed, expected))
    if wrong and found.snapshot and not offline:
        for name in {name for name, _ in wrong}:
            hub.fetch_again(found.snapshot, found.source, name, token)
        wrong = list(checks.wrong_files(found.folder, found.needed, expected))
    if wrong:
        name, fault = wrong[0]
        more = f", and {len(wrong) - 1} more files are wrong" if len(wrong) > 1 else ""
        raise FicturesError(f"{found.source.setting}={found.source.name}: {name} {fault}{more} (in {found.folder})")
