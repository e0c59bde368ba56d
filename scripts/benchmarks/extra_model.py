"""One more model in the server that is measured, for as long as it takes."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.server import Server

_LOAD_TIMEOUT = 600.0  # seconds
_UNLOAD_TIMEOUT = 120.0


@contextmanager
def loaded(server: Server, source: Path, modules: Sequence[Path] = ()) -> Iterator[str]:
    """The model's name, beside the server's own models, through Triton's repository API.

    Args:
        server: Where it is served.
        source: The model's folder, whose name is the model's.
        modules: Files that belong beside its `model.py`.

    Raises:
        BenchmarkError: It cannot be loaded, or does not unload.
    """
    name = source.name
    folder = server.repository / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for module in modules:
        shutil.copy(module, folder / "1")
    try:
        _ask(server, name, "load", _LOAD_TIMEOUT)
        try:
            yield name
        finally:
            _ask(server, name, "unload", _UNLOAD_TIMEOUT)
            _wait_until_unloaded(server, name)
    finally:
        shutil.rmtree(folder)


def _ask(server: Server, name: str, action: str, timeout: float) -> None:
    try:
        answer = httpx.post(f"{server.http_url}/v2/repository/models/{name}/{action}", timeout=timeout, trust_env=False)
    except httpx.HTTPError as error:
        raise BenchmarkError(f"Triton could not {action} {name}: {error!r}") from error
    if answer.is_error:
        raise BenchmarkError(f"Triton could not {action} {name}: {answer.text}")


def _wait_until_unloaded(server: Server, name: str) -> None:
    deadline = time.monotonic() + _UNLOAD_TIMEOUT
    while time.monotonic() < deadline:
        if _is_unloaded(server, name):
            return
        time.sleep(0.2)
    raise BenchmarkError(f"{name} is not unloaded after {_UNLOAD_TIMEOUT:g} s")


def _is_unloaded(server: Server, name: str) -> bool:
    """False also while Triton does not say, as may happen while another model loads."""
    try:
        index = httpx.post(f"{server.http_url}/v2/repository/index", timeout=10, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return False
    return all(entry.get("state") == "UNAVAILABLE" for entry in index if entry["name"] == name)
