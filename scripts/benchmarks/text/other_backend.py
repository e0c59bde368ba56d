"""A second Triton like the server's own, with somebody else's text backend, such as NVIDIA's, in place of ours."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import server
from benchmarks.errors import BenchmarkError
from benchmarks.ports import free_ports
from fictures.settings import load_settings
from launcher import preflight, shared_memory, triton
from launcher.errors import LaunchError
from launcher.layout import ROOT, RUN, Instance
from launcher.readiness import Probe
from launcher.repository import TEXT_MODEL

_START_TIMEOUT = 600.0  # seconds


@contextmanager
def running(ours: server.Server, backend: Path, say: Callable[[str], None]) -> Iterator[tuple[server.Server, int]]:
    """That server and its process id, from ready to stopped.

    Args:
        ours: Whose text model it has, with the same `model.json`.
        backend: The folder that is to be Triton's backend `vllm`, with a `model.py`.
        say: Is told what goes on.

    Raises:
        BenchmarkError: It does not start or does not stop.
    """
    http, grpc, metrics = free_ports(3)
    name, instance = f"tritonserver with {backend.name}", Instance(http)
    log = RUN / f"benchmark-{http}.log"
    temporary = Path(tempfile.mkdtemp(prefix="benchmark-", dir="/tmp"))  # short: vLLM's sockets lie there
    try:
        shutil.copytree(ours.repository / TEXT_MODEL, instance.repository / TEXT_MODEL)
        command, variables = _command(instance, backend, temporary, (http, grpc, metrics))
        say(f"starting {name} on port {http}")
        with server.started(name, command, variables, log, folder=instance.folder) as process:
            probe = Probe(f"http://127.0.0.1:{http}")
            server.wait_until(lambda: probe.model_ready(TEXT_MODEL), process, name, log, _START_TIMEOUT)
            yield server.Server(f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", instance.repository), process.pid
    finally:
        shared_memory.remove((), _shm_prefix(instance))
        shutil.rmtree(instance.folder, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def _command(
    instance: Instance, backend: Path, temporary: Path, ports: tuple[int, int, int]
) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that the launcher would give it, but for the backend."""
    names = ("triton_http_port", "triton_grpc_port", "triton_metrics_port")
    settings = load_settings(ROOT / ".env").model_copy(
        update=dict(zip(names, ports, strict=True)) | {"serve": ["text"], "triton_host": "127.0.0.1"}
    )
    try:
        found = preflight.check(settings)
        assembled = triton.assemble(found.distribution)
    except LaunchError as error:
        raise BenchmarkError(str(error)) from error
    backends = instance.folder / "backends"
    backends.mkdir()
    (backends / "python").symlink_to(assembled / "python")
    (backends / "vllm").symlink_to(backend.resolve())
    command = triton.command(found.distribution, backends, instance, settings, _shm_prefix(instance), None)
    return command, triton.environment(found.distribution, settings, found.text_model, str(temporary), offline=True)


def _shm_prefix(instance: Instance) -> str:
    return f"benchmark_{instance.http_port}_"
