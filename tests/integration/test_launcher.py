"""`./scripts/serve` as a person meets it: what it says when it cannot start, and two copies side by side."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from conftest import ROOT, Server, free_ports, mapped_segments, running_server, wait_for
from fictures import Client


def engine_processes(server: Server) -> list[psutil.Process]:
    below = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in below if "VLLM::EngineCore" in " ".join(process.cmdline())]


def serve(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    http, grpc, metrics = map(str, free_ports(3))
    ports = {"TRITON_HTTP_PORT": http, "TRITON_GRPC_PORT": grpc, "TRITON_METRICS_PORT": metrics}
    environment = os.environ | ports | settings
    command = [ROOT / "scripts/serve", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def the_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed start ends with."""
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    (line,) = finished.stderr.splitlines()
    return line


def test_check_says_what_it_found_and_starts_nothing() -> None:
    finished = serve("--check")
    assert finished.returncode == 0
    assert "Triton      pytriton-0.7.0" in finished.stdout
    assert finished.stdout.endswith("can start\n")


def test_a_taken_port_is_named_with_the_process_that_holds_it() -> None:
    with socket.socket() as listener:
        (port,) = free_ports(1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        line = the_line(serve(TRITON_GRPC_PORT=str(port)))
    assert f"TRITON_GRPC_PORT={port}" in line
    assert f"(pid {os.getpid()})" in line


def test_a_bad_setting_is_named() -> None:
    assert "TEXT_MAX_MODEL_LEN=many" in the_line(serve(TEXT_MAX_MODEL_LEN="many"))


def test_a_model_folder_that_is_not_there_is_named() -> None:
    assert "TEXT_MODEL_NAME=/no/such/model" in the_line(serve(TEXT_MODEL_NAME="/no/such/model"))


def test_a_python_that_does_not_fit_is_named() -> None:
    assert "PYTHON=/bin/true" in the_line(serve(PYTHON="/bin/true"))


@pytest.mark.timeout(600)
def test_a_second_lazy_copy_runs_beside_the_first_and_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    with running_server(tmp_path, MODEL_LOADING="lazy") as second:
        assert not engine_processes(second), "the model is not loaded yet"
        texts = []
        for url in (server.grpc_url, second.grpc_url):
            with Client(url) as client:
                texts.append(client.generate_text("The harbour", max_tokens=8, temperature=0).text)
        assert texts[0] == texts[1]
        assert engine_processes(second)
        assert second.is_serving()
        assert server.is_serving()
        temporary = Path(second.state["temporary"])
        tree = psutil.Process(second.process.pid).children(recursive=True)
        segments = mapped_segments(tree)
        assert any(segment.startswith(second.state["shm_prefix"]) for segment in segments)
    assert second.state["status"] == "stopped"
    assert not temporary.exists()
    assert not any(process.is_running() for process in tree)
    assert not segments & set(os.listdir("/dev/shm"))
    assert server.is_serving()


@pytest.mark.timeout(600)  # two starts
def test_what_a_killed_launcher_leaves_ends_or_goes_at_the_next_start(tmp_path: Path) -> None:
    with running_server(tmp_path) as first:
        state = first.state
        pids = [state["tritonserver"]["pid"], *(process["pid"] for process in state["descendants"])]
        first.process.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(_runs(pid) for pid in pids), 60, "the killed launcher's processes ended")
        (tmp_path / "second").mkdir()
        again = {name: first.env[name] for name in first.env if name.startswith("TRITON_") and name.endswith("_PORT")}
        with running_server(tmp_path / "second", MODEL_LOADING="lazy", **again):
            assert not Path(state["temporary"]).exists()
            assert not list(Path("/dev/shm").glob(f"{state['shm_prefix']}*"))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
