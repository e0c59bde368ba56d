"""Puts the embedded Triton together out of the `nvidia-pytriton` package, and says how it is started."""

import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fictures.gateway.exposure import is_loopback
from fictures.settings import Settings
from launcher.errors import LaunchError
from launcher.layout import CACHE, ROOT, RUN, Instance
from launcher.models import TextModel
from launcher.repository import served_models
from launcher.tracing import Tracing

STUB = "triton_python_backend_stub"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"

ADMIN_APIS = "shared-memory,logging,trace"
"""What no client of the models needs, but for shared memory on the same machine."""
ADMIN_HEADER = "admin-key"
"""The header of a request that may use them; over gRPC `triton-grpc-protocol-` stands before it."""


@dataclass(frozen=True)
class Distribution:
    """The files that make a Triton server."""

    name: str
    """Of the backend directory that is put together from it."""
    binary: Path
    python_backend: Path
    stub: Path
    """The process that runs Python models, built for this Python."""
    libraries: tuple[Path, ...] = ()
    """Folders of shared libraries that the system does not know of."""


def find_distribution(home: Path | None) -> Distribution:
    """The Triton that is installed in `home`, or, where that is None, the embedded one.

    Raises:
        LaunchError: There is none.
    """
    return _embedded() if home is None else _installed(home)


def _embedded() -> Distribution:
    """The Triton of the package `nvidia-pytriton`."""
    packages = Path(sysconfig.get_path("platlib"))
    triton = packages / "pytriton" / "tritonserver"
    stub = triton / "python_backend_stubs" / PYTHON / STUB
    if not (triton / "bin" / "tritonserver").is_file():
        raise LaunchError("nvidia-pytriton is not installed in .venv: delete .venv and run ./scripts/serve again")
    if not stub.is_file():
        raise LaunchError(f"nvidia-pytriton has no Python {PYTHON} stub: set PYTHON to a Python 3.11, 3.12 or 3.13")
    return Distribution(
        name=f"pytriton-{version('nvidia-pytriton')}-python{PYTHON}",
        binary=triton / "bin" / "tritonserver",
        python_backend=triton / "backends" / "python",
        stub=stub,
        libraries=(packages / "nvidia_pytriton.libs", find_libpython()),
    )


def _installed(home: Path) -> Distribution:
    """A Triton as NVIDIA's images have it, whose stub is built for the image's Python."""
    found = Distribution(
        name=f"installed-{home.name}",
        binary=home / "bin" / "tritonserver",
        python_backend=home / "backends" / "python",
        stub=home / "backends" / "python" / STUB,
    )
    for file in (found.binary, found.stub):
        if not file.is_file():
            raise LaunchError(f"TRITON_HOME={home}: there is no Triton with a Python backend ({file} is missing)")
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
    target = RUN / "triton" / distribution.name
    ours = [folder for folder in sorted((ROOT / "backends").iterdir()) if (folder / "model.py").is_file()]
    if not _is_complete(target, ours):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        shutil.copytree(distribution.python_backend, draft / "python")
        if not (draft / "python" / STUB).is_file():
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
    distribution: Distribution,
    backends: Path,
    instance: Instance,
    settings: Settings,
    shm_prefix: str,
    tracing: Tracing | None,
) -> list[str]:
    """tritonserver's command line: the models that are served, shared memory named after this run."""
    level = settings.log_level
    arguments = {
        "model-repository": instance.repository,
        "backend-directory": backends,
        "http-address": settings.triton_host,
        "http-port": settings.triton_http_port,
        "grpc-address": settings.triton_host,
        "grpc-port": settings.triton_grpc_port,
        "metrics-address": settings.triton_host,
        "metrics-port": settings.triton_metrics_port,
        "exit-timeout-secs": settings.triton_shutdown_timeout,
        # A client may test a silent connection, and one that is gone for good does not keep its requests running.
        "grpc-keepalive-time": 30_000,
        "grpc-keepalive-timeout": 10_000,
        "grpc-keepalive-permit-without-calls": 1,
        "grpc-http2-max-pings-without-data": 0,
        "grpc-http2-min-recv-ping-interval-without-data": 1_000,
        "backend-config": f"python,shm-region-prefix-name={shm_prefix}",
        "log-verbose": int(level == "DEBUG"),
        "log-info": str(level in ("DEBUG", "INFO")).lower(),
        "log-warning": str(level != "ERROR").lower(),
    }
    if settings.triton_max_connection_age is not None:
        arguments["grpc-max-connection-age"] = settings.triton_max_connection_age * 1000
    options = [f"--{name}={value}" for name, value in arguments.items()]
    return [str(distribution.binary), *options, *_administration(settings), *(tracing.arguments if tracing else ())]


def _administration(settings: Settings) -> list[str]:
    """Who may load models, map shared memory and set logging and tracing over the network.

    Loading a model can bring its code along, so that where others than this machine reach Triton nobody may. What
    else there is asks for a key; one that is not set is one that nobody has.
    """
    key = settings.triton_admin_key
    if key is None and is_loopback(settings.triton_host):
        return ["--model-control-mode=explicit", *(f"--load-model={model}" for model in served_models(settings))]
    restriction = f"{ADMIN_APIS}:{ADMIN_HEADER}={key.get_secret_value() if key else secrets.token_urlsafe(32)}"
    return [
        "--model-control-mode=none",
        f"--http-restricted-api={restriction}",
        f"--grpc-restricted-protocol={restriction}",
    ]


def environment(
    distribution: Distribution,
    settings: Settings,
    text_model: TextModel,
    temporary: str,
    inherited: Mapping[str, str] = os.environ,
    *,
    tracing: Tracing | None = None,
    offline: bool = False,
) -> dict[str, str]:
    """tritonserver's environment. `temporary` is a short path: vLLM's sockets lie there, and 107 bytes is the
    longest name a Unix socket can have. `offline`: nothing comes from the Hugging Face hub.
    """
    variables = dict(inherited)
    variables |= {
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
        "VLLM_RPC_BASE_PATH": temporary,
        "TMPDIR": temporary,
        "VLLM_LOGGING_LEVEL": settings.log_level,
        "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
        # Triton, the compiler of GPU kernels, would take TRITON_HOME, Triton's folder, for its own.
        "TRITON_CACHE_DIR": inherited.get("TRITON_CACHE_DIR", str(CACHE / "triton")),
        # vLLM 0.32 on the CPU saves its ahead-of-time compiled model but cannot load it again
        # ("no attribute 'finalize_loading'"), so every start would compile; its other cache works.
        "VLLM_USE_AOT_COMPILE": inherited.get("VLLM_USE_AOT_COMPILE", "0"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if distribution.libraries:
        variables["LD_LIBRARY_PATH"] = ":".join(map(str, distribution.libraries))
    variables.pop("PYTHONPATH", None)
    if text_model.kv_cache_bytes is None:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(settings.vllm_cpu_kvcache_space)
    if offline:
        variables["HF_HUB_OFFLINE"] = "1"
    if settings.hf_token:
        variables["HF_TOKEN"] = settings.hf_token.get_secret_value()
    if settings.cuda_visible_devices is not None:
        variables["CUDA_VISIBLE_DEVICES"] = settings.cuda_visible_devices
    if tracing:
        variables |= tracing.variables
    return variables
