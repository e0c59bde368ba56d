"""vLLM's own server, with the very arguments that this server's engine has."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.ports import free_ports
from benchmarks.server import Server, started, wait_until
from fictures.settings import load_settings
from launcher.layout import CACHE, ROOT, RUN

_START_TIMEOUT = 600.0  # seconds
_COMMAND = Path(sys.executable).parent / "vllm"
# By its full name, as the server's own engine on a CPU (text_backend.start): vLLM would turn "uni" into "mp" there.
ONE_PROCESS = ("--distributed-executor-backend", "vllm.v1.executor.uniproc_executor.UniProcExecutor")


@contextmanager
def running(
    arguments: Mapping[str, Any], say: Callable[[str], None], *more: str, **variables: str
) -> Iterator[tuple[str, int]]:
    """`host:port` and process id of a `vllm serve`, from ready to stopped.

    Args:
        arguments: Of the text engine that it is to be like.
        say: Is told what goes on.
        more: Options besides.
        variables: Environment variables besides.

    Raises:
        BenchmarkError: It does not start or does not stop.
    """
    (port,) = free_ports(1)
    log = RUN / f"benchmark-vllm-{port}.log"
    say(f"starting vllm serve on port {port}")
    command = [str(_COMMAND), "serve", *options(arguments), *more]
    command += ["--served-model-name", "gemma", "--host", "127.0.0.1", "--port", str(port), "--no-enable-log-requests"]
    name, url = "vllm serve", f"http://127.0.0.1:{port}/health"
    with started(name, command, environment(arguments) | variables, log) as process:
        wait_until(lambda: _is_healthy(url), process, name, log, _START_TIMEOUT)
        yield f"127.0.0.1:{port}", process.pid


def threads_of_one_process() -> str:
    """OpenMP's, as vLLM counts them for a worker: one for each physical core, less one for everything else."""
    return str(max(1, (psutil.cpu_count(logical=False) or 1) - 1))


def arguments(server: Server) -> dict[str, Any]:
    """Those that the server's own text engine has, by the names of `AsyncEngineArgs`."""
    return dict(json.loads((server.repository / "gemma/1/model.json").read_text()))


def options(arguments: Mapping[str, Any]) -> list[str]:
    """Of `vllm serve`, for what `AsyncEngineArgs` are in `model.json`."""
    found = [str(arguments["model"])]
    for name, value in arguments.items():
        option = "--" + name.replace("_", "-")
        if name == "model" or value is None:
            continue
        if isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        else:
            found += [option, value if isinstance(value, str) else json.dumps(value)]
    return found


def environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    """As the launcher gives it to an engine with these arguments, where it matters for speed."""
    variables = dict(os.environ) | {
        "VLLM_CACHE_ROOT": str(CACHE / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
        "VLLM_USE_AOT_COMPILE": os.environ.get("VLLM_USE_AOT_COMPILE", "0"),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }
    variables["PYTHONPATH"] = str(_named_vllm()) if _is_nameless() else ""
    if "kv_cache_memory_bytes" not in arguments:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(load_settings(ROOT / ".env").vllm_cpu_kvcache_space)
    return variables


def _is_nameless() -> bool:
    """Whether vLLM is there under the name of its CPU build only, where its command does not look for itself."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return True
    return False


def _named_vllm() -> Path:
    """A folder that tells vLLM's command its own version, and by it that it was built for the CPU."""
    folder = RUN / "vllm-metadata"
    name = f"{version('vllm-cpu').partition('+')[0]}+cpu"
    place = folder / f"vllm-{name}.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {name}\n")
    return folder


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
