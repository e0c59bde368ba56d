"""One more model in the server that is measured, for as long as it takes."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.server import Server
from launcher import readiness

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
            probe = readiness.Probe(server.http_url)
            if not readiness.wait(
                done=lambda: probe.model_state(name) == "UNAVAILABLE",
                give_up=lambda: False,
                timeout=_UNLOAD_TIMEOUT,
                tick=lambda: None,
            ):
                raise BenchmarkError(f"{name} is not unloaded after {_UNLOAD_TIMEOUT:g} s")
    finally:
        shutil.rmtree(folder)


def _ask(server: Server, name: str, action: str, timeout: float) -> None:
    try:
        answer = httpx.post(f"{server.http_url}/v2/repository/models/{name}/{action}", timeout=timeout, trust_env=False)
    except httpx.HTTPError as error:
        raise BenchmarkError(f"Triton could not {action} {name}: {error!r}") from error
    if answer.is_error:
        raise BenchmarkError(f"Triton could not {action} {name}: {answer.text}")
