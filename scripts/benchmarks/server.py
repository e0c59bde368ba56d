"""The server that is measured: one of the benchmark's own, or one that runs already."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.ports import free_ports
from launcher import processes, state
from launcher.layout import ROOT, RUN, Instance, shown
from launcher.readiness import Probe

_START_TIMEOUT = 900.0  # seconds; the first start also installs the environment
_STOP_TIMEOUT = 60.0


@dataclass(frozen=True)
class Server:
    """Where a Triton is, and the model repository it serves from."""

    grpc_url: str
    http_url: str
    repository: Path
    api_url: str | None = None
    """Of the gateway, if it is known."""
    metrics_url: str | None = None
    """Of Triton's metrics, if it is known."""
    pid: int | None = None
    """Of the launcher, all of whose descendants are the server; None: somebody else started it."""

    @property
    def engine(self) -> Path:
        """The folder of the image engine, whose `model.json` names the image model."""
        return self.repository / "sdxl_stream" / "1"


def running(grpc_url: str, http_url: str, repository: Path | None) -> Server:
    """A server that somebody else started.

    Raises:
        BenchmarkError: It does not serve, or its model repository is not where it should be.
    """
    if not Probe(http_url).serves():
        raise BenchmarkError(f"{http_url}: the server does not answer, or one of its models is not ready")
    if repository is None:
        port = httpx.URL(http_url).port
        if port is None:
            raise BenchmarkError(f"{http_url}: which port? Or name the server's model repository with --repository")
        repository = Instance(port).repository
    launcher = state.read(repository.parent / "state.json")
    ports = launcher.ports if launcher else {}
    host = f"http://{httpx.URL(http_url).host}"
    api_url, metrics_url = (f"{host}:{ports[name]}" if name in ports else None for name in ("api", "metrics"))
    server = Server(grpc_url, http_url, repository.resolve(), api_url, metrics_url and f"{metrics_url}/metrics")
    if not (server.engine / "model.json").is_file():
        raise BenchmarkError(f"{shown(repository)} is not the server's model repository: name it with --repository")
    return server


@contextmanager
def own(say: Callable[[str], None], **settings: str) -> Iterator[Server]:
    """`./scripts/serve` on free ports, from ready to stopped; its files are removed unless something failed.

    Args:
        say: Is told what goes on.
        settings: Environment variables over those of this process.

    Raises:
        BenchmarkError: It does not start or does not stop.
    """
    http, grpc, metrics, api = free_ports(4)
    ports = {"TRITON_HTTP_PORT": http, "TRITON_GRPC_PORT": grpc, "TRITON_METRICS_PORT": metrics, "API_PORT": api}
    instance = Instance(http)
    log = RUN / f"benchmark-{http}.log"
    log.parent.mkdir(exist_ok=True)
    say(f"starting a server on port {http}")
    name, command = "./scripts/serve", [str(ROOT / "scripts" / "serve")]
    variables = os.environ | {variable: str(port) for variable, port in ports.items()} | settings
    with started(name, command, variables, log) as process:
        http_url = f"http://127.0.0.1:{http}"
        wait_until(Probe(http_url).serves, process, name, log, _START_TIMEOUT)
        api_url, metrics_url = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{metrics}/metrics"
        yield Server(f"127.0.0.1:{grpc}", http_url, instance.repository, api_url, metrics_url, process.pid)
    shutil.rmtree(instance.folder, ignore_errors=True)


@contextmanager
def started(
    name: str, command: list[str], variables: Mapping[str, str], log: Path, folder: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end with all below it; its log is removed unless something failed.

    Args:
        name: What an error calls it.
        command: Program and arguments.
        variables: The whole environment.
        log: The file for all that it prints.
        folder: Where it runs.

    Raises:
        BenchmarkError: It does not stop.
    """
    log.unlink(missing_ok=True)
    process = processes.start(command, variables, log, folder)
    try:
        yield process
    finally:
        if not processes.stop(process, _STOP_TIMEOUT):
            raise BenchmarkError(f"{name} did not stop within {_STOP_TIMEOUT:g} s and was killed: see {shown(log)}")
    log.unlink(missing_ok=True)


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path, seconds: float
) -> None:
    """Waits for a server that is starting.

    Raises:
        BenchmarkError: It ended, or is not ready in time.
    """
    deadline = time.monotonic() + seconds
    while not is_ready():
        if process.poll() is not None:
            last = (log.read_text().splitlines() or ["no output"])[-1]
            raise BenchmarkError(f"{name} ended: {last} (log: {shown(log)})")
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{name} is not ready after {seconds:g} s: see {shown(log)}")
        time.sleep(0.1)
