"""One tritonserver process and what belongs to it: start, wait until it serves, stop, leave nothing behind."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fictures.settings import Settings
from launcher import processes, readiness, shared_memory, state, triton
from launcher.errors import LaunchError
from launcher.failures import ConfiguredModel, explain
from launcher.layout import CACHE, Instance, reachable, shown
from launcher.preflight import Findings
from launcher.processes import Identity
from launcher.repository import IMAGE_ENGINE, IMAGE_MODEL, TEXT_MODEL, served_models

LOGS_KEPT = 3


class TritonServer:
    """The embedded Triton of one instance. It can be started again after it stopped or died."""

    def __init__(
        self, instance: Instance, settings: Settings, findings: Findings, backends: Path, say: Callable[[str], None]
    ) -> None:
        self._instance = instance
        self._settings = settings
        self._findings = findings
        self._backends = backends
        self._say = say
        self._state_unwritable = False
        self._process: subprocess.Popen[bytes] | None = None
        self._models = served_models(settings)
        self.probe = readiness.Probe(
            f"http://{reachable(settings.triton_host)}:{settings.triton_http_port}", self._models
        )
        me = processes.identify(os.getpid())
        assert me is not None
        self.state = state.State(
            status="starting",
            ports={
                "http": settings.triton_http_port,
                "grpc": settings.triton_grpc_port,
                "metrics": settings.triton_metrics_port,
                "api": settings.api_port,
            },
            launcher=me,
            shm_prefix=f"fictures_{settings.triton_http_port}_{me.pid}_",
            temporary=tempfile.mkdtemp(prefix=Path(state.TEMPORARY_PREFIX).name, dir="/tmp"),
        )

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def pids(self) -> set[int]:
        """The processes that the launcher itself started."""
        return {self._process.pid} if self._process else set()

    def set_status(self, status: str) -> None:
        self.state.status = status
        self._write_state()

    def note_gateway(self, gateway: Identity | None) -> None:
        """Write down which process the gateway is, or that there is none."""
        self.state.gateway = gateway
        self._write_state()

    def start(self, status: str) -> None:
        """Start tritonserver; it does not serve yet."""
        for folder in (CACHE, self._instance.triton_log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        rotate(self._instance.triton_log)
        self.set_status(status)
        settings, found = self._settings, self._findings
        command = triton.command(
            found.distribution, self._backends, self._instance, settings, self.state.shm_prefix, found.tracing
        )
        environment = triton.environment(
            found.distribution,
            settings,
            found.text_model,
            self.state.temporary,
            tracing=found.tracing,
            offline=found.text_model.is_local and found.image_model.is_local,
        )
        self._process = processes.start(command, environment, self._instance.triton_log, self._instance.folder)
        self.state.tritonserver = processes.identify(self._process.pid)
        self.set_status(status)

    def wait_until_serving(self, stopping: Callable[[], bool], show: Callable[[str, float], None]) -> bool:
        """Wait until clients can start; False if `stopping` came true. `show` gets the phase and the seconds.

        Raises:
            LaunchError: It ended, or START_TIMEOUT passed.
        """
        began = time.monotonic()

        def tick() -> None:
            self.observe()
            show(readiness.phase(self.log()), time.monotonic() - began)

        ready = readiness.wait(
            done=self.probe.serves,
            give_up=lambda: stopping() or self.ended,
            timeout=self._settings.start_timeout,
            tick=tick,
        )
        if ready:
            self.observe(rescan=True)
            self.set_status("ready")
        elif not stopping():
            raise LaunchError(self._why_not_serving())
        return ready

    def observe(self, *, rescan: bool = False) -> set[Identity]:
        """The living processes below tritonserver; they and their shared memory go into the state file.

        The memory is looked at when there are other processes than before, and on `rescan`.
        """
        if self._process is None:
            return set()
        below = processes.descendants(self._process.pid)
        if rescan or below != self.state.descendants:
            self.state.descendants = below
            pids = [process.pid for process in below] + [self._process.pid]
            self.state.segments |= shared_memory.mapped_by(pids)
            self._write_state()
        return below

    def stubs(self, among: set[Identity]) -> dict[Identity, str]:
        """Which of these processes run a Python model, and the model's name."""
        found = {}
        for process in among:
            arguments = processes.command_line(process.pid)
            if len(arguments) > 1 and Path(arguments[0]).name == triton.STUB:
                model = Path(arguments[1])
                if model.is_relative_to(self._instance.repository):
                    found[process] = model.relative_to(self._instance.repository).parts[0]
        return found

    def log(self, last_bytes: int = 4 << 20) -> str:
        """The end of tritonserver's log."""
        try:
            with self._instance.triton_log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last_bytes))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def kill(self) -> None:
        """End what is left of a server that failed: nothing in it is worth waiting for."""
        self.stop(grace=0)

    def stop(self, grace: float | None = None) -> None:
        """End tritonserver and everything below it, and remove their shared memory. `grace`: seconds for the requests
        that run, if not those of the settings.
        """
        if self._process is None:
            return
        if grace is None:
            grace = self._settings.triton_shutdown_timeout + 5
        self.observe(rescan=True)
        processes.stop(self._process, grace)
        processes.end(self.state.descendants)
        shared_memory.remove(self.state.segments, self.state.shm_prefix)
        self._process = None
        self.state.tritonserver = None
        self.state.descendants, self.state.segments = set(), set()

    def close(self) -> None:
        """Stop, for good."""
        self.stop()
        shutil.rmtree(self.state.temporary, ignore_errors=True)
        self.set_status("stopped")

    def _write_state(self) -> None:
        """A full disk is no reason to stop serving; it is said once."""
        try:
            self.state.write(self._instance.state_file)
        except OSError as error:
            if not self._state_unwritable:
                self._state_unwritable = True
                self._say(
                    f"{shown(self._instance.state_file)} cannot be written ({error.strerror}): serving without it"
                )

    def _why_not_serving(self) -> str:
        log = shown(self._instance.triton_log)
        if not self.ended:
            seconds = f"{self._settings.start_timeout:g} s"
            doing = readiness.phase(self.log())
            return f"not ready after {seconds} (while {doing}): raise START_TIMEOUT, or see {log}"
        assert self._process is not None
        text = ConfiguredModel("TEXT_MODEL_NAME", self._findings.text_model.name)
        image = ConfiguredModel("IMAGE_MODEL_NAME", self._findings.image_model.name)
        models = {TEXT_MODEL: text, IMAGE_ENGINE: image, IMAGE_MODEL: image}
        reason = explain(self.log(), models, self._process.poll())
        return f"{reason} (log: {log})"


def rotate(log: Path) -> None:
    """Make room for a new log; the last ones stay as `.1`, `.2` and so on."""
    for number in range(LOGS_KEPT - 1, -1, -1):
        old = log.with_name(f"{log.name}.{number}") if number else log
        if old.exists():
            old.replace(log.with_name(f"{log.name}.{number + 1}"))
