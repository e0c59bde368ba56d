"""The gateway's process: started beside tritonserver, and again by itself when it dies."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from fictures.settings import Settings
from launcher import processes, readiness
from launcher.errors import LaunchError
from launcher.layout import ROOT, Instance, reachable, shown
from launcher.processes import Identity
from launcher.server import rotate

START_TIMEOUT = 60.0


class Gateway:
    """The gateway of one instance. It can be started again after it died."""

    def __init__(self, instance: Instance, settings: Settings) -> None:
        self._instance = instance
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._probe = readiness.Probe(f"http://{reachable(settings.api_host)}:{settings.api_port}")

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def identity(self) -> Identity | None:
        return processes.identify(self._process.pid) if self._process else None

    def start(self) -> None:
        """Start it; it does not answer yet."""
        log = self._instance.gateway_log
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        command = [str(Path(sys.executable).parent / "fictures"), "gateway"]
        self._process = processes.start(command, environment(self._settings), log, ROOT)

    def wait_until_live(self, stopping: Callable[[], bool]) -> None:
        """Wait until it answers, or `stopping` comes true.

        Raises:
            LaunchError: It ended, or START_TIMEOUT passed.
        """
        live = readiness.wait(
            done=self._probe.gateway_live,
            give_up=lambda: stopping() or self.ended,
            timeout=START_TIMEOUT,
            tick=lambda: None,
        )
        if not live and not stopping():
            log = self._instance.gateway_log
            words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            why = words[-1].removeprefix("fictures: ") if words else "it said nothing"
            raise LaunchError(f"the gateway did not start: {why} (log: {shown(log)})")

    def stop(self) -> None:
        """Let it end the requests that run, within `API_SHUTDOWN_TIMEOUT`; then end it."""
        if self._process is not None:
            processes.stop(self._process, self._settings.api_shutdown_timeout + 5)
            self._process = None


def environment(settings: Settings, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The gateway's environment: the launcher's own, and where this Triton is for what it serves."""
    own = f"{reachable(settings.triton_host)}:{settings.triton_grpc_port}"
    elsewhere = {"text": settings.triton_url, "images": settings.triton_image_url}
    text, images = (own if part in settings.serve else elsewhere[part] or own for part in ("text", "images"))
    return {**inherited, "TRITON_URL": text, "TRITON_IMAGE_URL": images}
