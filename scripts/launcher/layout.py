"""Where everything lies: the checkout, and one instance's run-time state under `.run/`."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / ".run"
CACHE = RUN / "cache"
"""Compiled kernels and the like, shared by all instances, so that a second start is quick."""


@dataclass(frozen=True)
class Instance:
    """One running copy of the server, named after its HTTP port; copies share `.venv` and the caches only."""

    http_port: int

    @property
    def folder(self) -> Path:
        return RUN / f"instance-{self.http_port}"

    @property
    def repository(self) -> Path:
        return self.folder / "model_repository"

    @property
    def triton_log(self) -> Path:
        return self.folder / "logs" / "tritonserver.log"

    @property
    def gateway_log(self) -> Path:
        return self.folder / "logs" / "gateway.log"

    @property
    def lock_file(self) -> Path:
        return self.folder / "lock"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"


def reachable(host: str) -> str:
    """An address at which a server on this machine that listens on `host` can be asked."""
    if host in ("0.0.0.0", "localhost"):
        return "127.0.0.1"
    if host == "::":  # IPv6 alone, as asyncio listens
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def shown(path: Path) -> str:
    """`path` as a person types it from the checkout."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
