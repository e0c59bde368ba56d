"""Real servers for the tests: `./scripts/serve` on free loopback ports, stopped by its own pid."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.ports import free_ports

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 240  # seconds
CRASH = re.compile(r"^Signal \((?!2\)|15\))", re.MULTILINE)  # how tritonserver's report of its own crash begins

_logs: list[Path] = []  # folders


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """After everything else, if a test failed: where a tritonserver crashed, whatever the tests made of it."""
    yield
    if not terminalreporter.stats.keys() & {"failed", "error"}:
        return
    for log in (log for folder in _logs for log in sorted(folder.glob("tritonserver.log*"))):
        text = log.read_text(errors="replace")
        if crash := CRASH.search(text):
            terminalreporter.section(f"tritonserver crashed: {log.relative_to(ROOT)}")
            before, stack = text[: crash.start()], text[crash.start() :]
            terminalreporter.line("\n".join([*before.splitlines()[-15:], stack[:4_000]]))


@dataclass
class Server:
    """A running `./scripts/serve`."""

    process: subprocess.Popen[str]
    ports: dict[str, int]
    log: Path
    env: dict[str, str] = field(repr=False)

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['metrics']}/metrics"

    @property
    def folder(self) -> Path:
        return ROOT / ".run" / f"instance-{self.ports['http']}"

    @property
    def repository(self) -> Path:
        return self.folder / "model_repository"

    @property
    def model_dir(self) -> Path:
        return Path(json.loads((self.repository / "gemma/1/model.json").read_text())["model"])

    @property
    def image_model_dir(self) -> Path:
        return Path(json.loads((self.repository / "sdxl_stream/1/model.json").read_text())["model"])

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "state.json").read_text())

    def has_started(self) -> bool:
        """Whether the launcher says so, which only then starts again what dies."""
        if not (self.folder / "state.json").exists():
            return False
        state = self.state
        return state["status"] == "ready" and (state["gateway"] is None or self.gateway_is_live())

    def gateway_is_live(self) -> bool:
        try:
            return httpx.get(f"{self.api_url}/health/live", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def is_serving(self) -> bool:
        """The documented question: can the engines that it has take requests now?"""
        required = {"gemma": "text_input", "sdxl": "prompt"}
        served = [model for model in required if (self.repository / model).is_dir()]
        return all(self.takes_requests(model, required[model]) for model in served)

    def takes_requests(self, model: str, required_input: str) -> bool:
        question = {required_input: "", "health_check": True}
        try:
            return httpx.post(f"{self.http_url}/v2/models/{model}/generate", json=question, timeout=5).is_success
        except httpx.HTTPError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels."""
        total = 0.0
        for line in httpx.get(self.metrics_url, timeout=10).text.splitlines():
            if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total


def tritonserver(server: Server) -> psutil.Process:
    """The server's tritonserver, found from the launcher that the test started."""
    launcher = psutil.Process(server.process.pid)
    (found,) = [child for child in launcher.children() if child.name() == "tritonserver"]
    return found


def stub_of(server: Server, model: str) -> psutil.Process:
    """The process that runs a model's Python code."""
    children = tritonserver(server).children()
    (found,) = [child for child in children if f"/{model}/1/model.py" in " ".join(child.cmdline())]
    return found


def wait_for(condition: Callable[[], bool], timeout: float, what: str) -> float:
    """Seconds until `condition` held; fails the test after `timeout`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout:
            pytest.fail(f"after {timeout:g} s still not: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def mapped_segments(processes: list[psutil.Process]) -> set[str]:
    """The shared memory that these processes use, Triton's as well as vLLM's."""
    maps = (Path(f"/proc/{process.pid}/maps").read_text() for process in processes)
    return {line.split("/dev/shm/")[1].split()[0] for text in maps for line in text.splitlines() if "/dev/shm/" in line}


@contextmanager
def running_server(tmp_path: Path, **settings: str) -> Iterator[Server]:
    """`./scripts/serve` with `settings`, from ready to stopped."""
    http, grpc, metrics, api = free_ports(4)
    env = os.environ | {
        "TRITON_HTTP_PORT": str(http),
        "TRITON_GRPC_PORT": str(grpc),
        "TRITON_METRICS_PORT": str(metrics),
        "API_PORT": str(api),
        **settings,
    }
    log = tmp_path / f"serve-{http}.log"
    _logs.append(ROOT / f".run/instance-{http}/logs")
    with log.open("w") as output:
        process = subprocess.Popen(
            [ROOT / "scripts/serve"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    names = {
        "http": "TRITON_HTTP_PORT",
        "grpc": "TRITON_GRPC_PORT",
        "metrics": "TRITON_METRICS_PORT",
        "api": "API_PORT",
    }
    server = Server(process, {name: int(env[variable]) for name, variable in names.items()}, log, env)
    try:
        wait_for(lambda: process.poll() is not None or server.has_started(), START_TIMEOUT, f"serving ({log})")
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"./scripts/serve did not stop within 60 s of SIGTERM; see {log}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share, with the embedded defaults."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@contextmanager
def loaded_model(
    server: Server,
    name: str,
    engine_args: dict[str, Any],
    lora_paths: dict[str, str] | None = None,
    instances: int = 1,
    *,
    lazy: bool = False,
) -> Iterator[None]:
    """One more text model beside `gemma`, loaded through Triton's repository API and unloaded at the end."""
    version = server.repository / name / "1"
    version.mkdir(parents=True)
    config = (server.repository / "gemma/config.pbtxt").read_text()
    (version.parent / "config.pbtxt").write_text(config.replace("count: 1", f"count: {instances}"))
    if lazy:
        make_lazy(version.parent / "config.pbtxt")
    gemma = json.loads((server.repository / "gemma/1/model.json").read_text())
    (version / "model.json").write_text(json.dumps(gemma | engine_args))
    if lora_paths is not None:
        (version / "multi_lora.json").write_text(json.dumps(lora_paths))
    with _loaded(server, name):
        yield


@contextmanager
def loaded_image_engine(server: Server, name: str, *, lazy: bool = False, **settings: Any) -> Iterator[None]:
    """One more image engine beside `sdxl_stream`, with these keys of `model.json` changed."""
    shutil.copytree(server.repository / "sdxl_stream", server.repository / name)
    if lazy:
        make_lazy(server.repository / name / "config.pbtxt")
    path = server.repository / name / "1/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with _loaded(server, name):
        yield


def make_lazy(config: Path) -> None:
    with config.open("a") as file:
        file.write('parameters: { key: "MODEL_LOADING" value: { string_value: "lazy" } }')


@contextmanager
def _loaded(server: Server, name: str) -> Iterator[None]:
    control = f"{server.http_url}/v2/repository/models/{name}"
    httpx.post(f"{control}/load", timeout=START_TIMEOUT).raise_for_status()
    try:
        yield
    finally:
        httpx.post(f"{control}/unload", timeout=60).raise_for_status()
        wait_for(lambda: not is_loaded(server, name), 120, f"{name} unloaded")
        shutil.rmtree(server.repository / name)


def is_loaded(server: Server, model: str) -> bool:
    """Whether a model is loaded, or still on its way out."""
    index = httpx.post(f"{server.http_url}/v2/repository/index", timeout=10).json()
    states = [entry.get("state") for entry in index if entry["name"] == model]
    return states != ["UNAVAILABLE"]


def make_tiny_model(folder: Path, *options: str) -> Path:
    """A tiny model of `scripts/make_tiny_gemma.py`, made once in `folder`."""
    if not folder.exists():
        python = ROOT / ".venv/bin/python"
        command = [python, ROOT / "scripts/make_tiny_gemma.py", "--output", folder, *options]
        subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    return folder


def make_random_gemma() -> Path:
    """A text model with random weights: it writes words, emoji and accented letters, and hardly ever ends."""
    return make_tiny_model(ROOT / ".run/models/tiny-gemma-random")


@dataclass(frozen=True)
class Architectures:
    """Models of all architectures side by side in one server."""

    http_url: str
    grpc_url: str
    model_dirs: dict[str, Path]


@pytest.fixture(scope="module")
def architectures(server: Server) -> Iterator[Architectures]:
    models = ROOT / ".run/models"
    gemma2 = make_tiny_model(models / "tiny-gemma2", "--architecture", "gemma2")
    gemma3 = make_tiny_model(models / "tiny-gemma3", "--architecture", "gemma3")
    with (
        loaded_model(server, "gemma2", {"model": str(gemma2)}),
        loaded_model(server, "gemma3", {"model": str(gemma3)}),
    ):
        model_dirs = {"gemma": server.model_dir, "gemma2": gemma2, "gemma3": gemma3}
        yield Architectures(server.http_url, server.grpc_url, model_dirs)
