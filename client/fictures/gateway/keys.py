"""API keys in a file: their hashes, one JSON object a line, read again when the file changes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fictures.errors import ConfigurationError

_log = structlog.get_logger("fictures.gateway")

PREFIX = "fictures-"
_RECHECK_SECONDS = 1.0


class ApiKey(BaseModel):
    """A key as the file holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.@-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime
    max_concurrent: int | None = Field(None, ge=1)
    requests_per_minute: int | None = Field(None, ge=1)


def hash_of(secret: str) -> str:
    """A key's hash. A plain one is enough: keys are 256 random bits, which nobody can try out."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read(path: Path) -> list[ApiKey]:
    """The keys of a file.

    Raises:
        ConfigurationError: it cannot be read, or a line is no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"API_KEYS_FILE={path}: cannot be read: {error}"]) from error
    keys, problems = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                keys.append(ApiKey.model_validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(map(str, first["loc"]))
                problems.append(
                    f"{path}, line {number}: {place}: {first['msg']}"
                    if place
                    else f"{path}, line {number}: {first['msg']}"
                )
    if problems:
        raise ConfigurationError(problems)
    return keys


def create(path: Path, name: str, *, max_concurrent: int | None = None, requests_per_minute: int | None = None) -> str:
    """Add a key to a file, which need not be there yet, and return its secret, which nothing keeps.

    Raises:
        ConfigurationError: the name is taken or not allowed, or the file cannot be read or written.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        key = ApiKey(
            name=name,
            sha256=hash_of(secret),
            created=datetime.now(UTC).replace(microsecond=0),
            max_concurrent=max_concurrent,
            requests_per_minute=requests_per_minute,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigurationError([f"{first['loc'][0]}={first['input']}: {first['msg']}"]) from None
    with _locked(path):
        keys = read(path) if path.exists() else []
        if any(known.name == name for known in keys):
            raise ConfigurationError([f"there is a key {name!r} already: choose another name, or revoke that one"])
        _write(path, [*keys, key])
    return secret


def revoke(path: Path, name: str) -> None:
    """Take a key out of a file.

    Raises:
        ConfigurationError: there is none of this name, or the file cannot be read or written.
    """
    with _locked(path):
        keys = read(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise ConfigurationError([f"there is no key {name!r} in {path}"])
        _write(path, left)


class KeyStore:
    """The keys of a file, as it is now. A file that has become unreadable leaves the keys as they were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamp_of_file()
        self._keys = {key.sha256: key for key in read(path)}
        self._checked_at = time.monotonic()

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret; None if there is none."""
        if time.monotonic() - self._checked_at > _RECHECK_SECONDS:
            self._reload()
        return self._keys.get(hash_of(secret))

    def _reload(self) -> None:
        self._checked_at = time.monotonic()
        stamp = self._stamp_of_file()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = {key.sha256: key for key in read(self._path)}
            except ConfigurationError as error:
                _log.warning("the keys stay as they were", problems=error.problems)

    def _stamp_of_file(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ctime_ns, found.st_size, found.st_ino  # of what can be read, too: owner and mode


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError([f"API_KEYS_FILE={path}: cannot be written: {error.strerror}"]) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: list[ApiKey]) -> None:
    """Replace the file whole: a gateway never reads half of it."""
    draft = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
            draft.writelines(key.model_dump_json(exclude_none=True) + "\n" for key in keys)
        if path.exists():  # whoever could read the old file, the gateway above all, can read the new one
            before = path.stat()
            os.chmod(draft.name, stat.S_IMODE(before.st_mode))
            if os.geteuid() == 0:
                os.chown(draft.name, before.st_uid, before.st_gid)
        os.replace(draft.name, path)
    except OSError as error:
        if draft is not None:
            Path(draft.name).unlink(missing_ok=True)
        raise ConfigurationError([f"API_KEYS_FILE={path}: cannot be written: {error.strerror}"]) from error
