"""Puts the embedded Triton together out of the `nvidia-pytriton` package, and says how it is started."""

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fictures.settings import Settings
from launcher.errors import LaunchError
from launcher.layout import CACHE, ROOT, RUN, Instance
from launcher.models import TextModel

STUB = "triton_python_backend_stub"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"
LOOPBACK = "127.0.0.1"
EXIT_TIMEOUT = 10
"""Seconds that tritonserver waits for requests in flight when it is asked to stop."""


@dataclass(frozen=True)
class Distribution:
    """The files of the installed `nvidia-pytriton` that make a Triton server."""

    triton: Path
    libraries: Path

    @property
    def binary(self) -> Path:
        return self.triton / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        return self.triton / "python_backend_stubs" / PYTHON / STUB


def find_distribution() -> Distribution:
    """Where `nvidia-pytriton` is installed.

    Raises:
        LaunchError: It is not, or it has no stub for this Python.
    """
    packages = Path(sysconfig.get_path("platlib"))
    found = Distribution(packages / "pytriton" / "tritonserver", packages / "nvidia_pytriton.libs")
    if not found.binary.is_file():
        raise LaunchError("nvidia-pytriton is not installed in .venv: delete .venv and run ./scripts/serve again")
    if not found.stub.is_file():
        raise LaunchError(f"nvidia-pytriton has no Python {PYTHON} stub: set PYTHON to a Python 3.11, 3.12 or 3.13")
    return found


def find_libpython() -> Path:
    """The folder with the shared library of the interpreter that owns the environment.

    The stub embeds that library; another build of the same version fails as soon as it imports.

    Raises:
        LaunchError: This interpreter was built or installed without it.
    """
    configured = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for folder in (configured, configured / multiarch, Path(sys.base_prefix) / "lib"):
        if (folder / LIBPYTHON).exists():
            return folder
    raise LaunchError(
        f"{sys.base_prefix}/bin/python{PYTHON} has no shared library {LIBPYTHON}, which Triton's Python backend "
        f"needs: install it (Debian: apt install libpython{PYTHON}) or set PYTHON to one that has it, and delete .venv"
    )


def assemble(distribution: Distribution) -> Path:
    """The backend directory: the Python backend, this Python's stub in it, and the project's own backends."""
    target = RUN / "triton" / f"pytriton-{version('nvidia-pytriton')}-python{PYTHON}"
    ours = [folder for folder in sorted((ROOT / "backends").iterdir()) if (folder / "model.py").is_file()]
    if not _is_complete(target, ours):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        shutil.copytree(distribution.triton / "backends" / "python", draft / "python")
        shutil.copy(distribution.stub, draft / "python" / STUB)
        for folder in ours:
            (draft / folder.name).symlink_to(folder)
        _put_in_place(draft, target, ours)
    return target


def _is_complete(target: Path, ours: list[Path]) -> bool:
    return (target / "python" / STUB).is_file() and all((target / folder.name).resolve() == folder for folder in ours)


def _put_in_place(draft: Path, target: Path, ours: list[Path]) -> None:
    """Rename `draft` to `target`, unless a copy of the server that started at the same time was faster."""
    try:
        draft.rename(target)
    except OSError:
        if _is_complete(target, ours):
            shutil.rmtree(draft)
            return
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
        target.rename(old / "old")
        draft.rename(target)
        shutil.rmtree(old)


def command(
    distribution: Distribution, backends: Path, instance: Instance, settings: Settings, shm_prefix: str
) -> list[str]:
    """tritonserver's command line: loopback only, models loaded by name, shared memory named after this run."""
    level = settings.log_level
    arguments = {
        "model-repository": instance.repository,
        "backend-directory": backends,
        "model-control-mode": "explicit",
        "http-address": LOOPBACK,
        "http-port": settings.triton_http_port,
        "grpc-address": LOOPBACK,
        "grpc-port": settings.triton_grpc_port,
        "metrics-address": LOOPBACK,
        "metrics-port": settings.triton_metrics_port,
        "exit-timeout-secs": EXIT_TIMEOUT,
        "backend-config": f"python,shm-region-prefix-name={shm_prefix}",
        "log-verbose": int(level == "DEBUG"),
        "log-info": str(level in ("DEBUG", "INFO")).lower(),
        "log-warning": str(level != "ERROR").lower(),
    }
    return [str(distribution.binary), *(f"--{name}={value}" for name, value in arguments.items())]


def environment(
    distribution: Distribution,
    libpython: Path,
    settings: Settings,
    text_model: TextModel,
    temporary: str,
    inherited: Mapping[str, str] = os.environ,
    *,
    offline: bool = False,
) -> dict[str, str]:
    """tritonserver's environment. `temporary` is a short path: vLLM's sockets lie there, and 107 bytes is the
    longest name a Unix socket can have. `offline`: nothing comes from the Hugging Face hub.
    """
    variables = dict(inherited)
    variables |= {
        "LD_LIBRARY_PATH": f"{distribution.libraries}:{libpython}",
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
        "VLLM_RPC_BASE_PATH": temporary,
        "TMPDIR": temporary,
        "VLLM_LOGGING_LEVEL": settings.log_level,
        "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
        # vLLM 0.32 on the CPU saves its ahead-of-time compiled model but cannot load it again
        # ("no attribute 'finalize_loading'"), so every start would compile; its other cache works.
        "VLLM_USE_AOT_COMPILE": inherited.get("VLLM_USE_AOT_COMPILE", "0"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    variables.pop("PYTHONPATH", None)
    if text_model.kv_cache_bytes is None:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(settings.vllm_cpu_kvcache_space)
    if offline:
        variables["HF_HUB_OFFLINE"] = "1"
    if settings.hf_token:
        variables["HF_TOKEN"] = settings.hf_token.get_secret_value()
    if settings.cuda_visible_devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = settings.cuda_visible_devices
    return variables
