"""Triton's APIs beside inference are closed where others reach it. No model is needed, so none is loaded."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from conftest import free_ports, wait_for
from fictures.settings import Settings
from launcher import triton
from launcher.layout import Instance
from launcher.models import TextModel

KEY = "not-a-secret=1:2"
READS = ("systemsharedmemory/status", "cudasharedmemory/status", "logging", "trace/setting")


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[tuple[str, str]]:
    """The launcher's command line with an empty repository: URLs of HTTP and gRPC."""
    http, grpc_port, metrics = free_ports(3)
    ports = {"triton_http_port": http, "triton_grpc_port": grpc_port, "triton_metrics_port": metrics}
    made = Settings(serve=["gateway"], **ports, **settings)  # type: ignore[arg-type]
    found = triton.find_distribution(None)
    (folder / "backends").mkdir()
    (folder / "models").mkdir()
    command = triton.command(found, folder / "backends", Instance(http), made, "fictures_none_", None)
    command = [f"--model-repository={folder / 'models'}" if "--model-rep" in part else part for part in command]
    command = [part.replace("-address=0.0.0.0", "-address=127.0.0.1") for part in command]  # nobody else, for a test
    environment = triton.environment(found, made, TextModel("none", "auto", is_local=True), str(folder), os.environ)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{http}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/v2/health/ready").is_success
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers, 30, "a server without models")
        yield url, f"127.0.0.1:{grpc_port}"
        assert KEY not in log.read_text()
    finally:
        process.terminate()
        process.wait(60)


def test_on_this_machine_everything_is_open(tmp_path: Path) -> None:
    with running(tmp_path) as (url, _):
        assert [httpx.get(f"{url}/v2/{path}").status_code for path in READS] == [200] * len(READS)
        refused = httpx.post(f"{url}/v2/repository/models/none/load")
        assert "not allowed" not in refused.text


@pytest.mark.parametrize("with_key", [True, False], ids=["a key is set", "others reach it"])
def test_elsewhere_nobody_loads_models_and_the_rest_needs_a_key(tmp_path: Path, with_key: bool) -> None:
    settings = {"triton_admin_key": KEY} if with_key else {"triton_host": "0.0.0.0"}
    with running(tmp_path, **settings) as (url, grpc_url):
        for action in ("load", "unload"):
            refused = httpx.post(f"{url}/v2/repository/models/none/{action}", headers={triton.ADMIN_HEADER: KEY})
            assert "explicit model load / unload is not allowed" in refused.text
        restricted = httpx.get(f"{url}/v2/logging")
        assert restricted.json() == {"error": "This API is restricted, expecting header 'admin-key'"}
        client = grpc.InferenceServerClient(grpc_url)
        reads = (
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
            client.get_log_settings,
            client.get_trace_settings,
        )
        assert [httpx.get(f"{url}/v2/{path}").status_code for path in READS] == [403] * len(READS)
        for read in reads:
            with pytest.raises(InferenceServerException, match="restricted"):
                read()
        expected = 200 if with_key else 403
        sent = {triton.ADMIN_HEADER: KEY}
        assert [httpx.get(f"{url}/v2/{path}", headers=sent).status_code for path in READS] == [expected] * len(READS)
        if with_key:
            for read in reads:
                read(headers={f"triton-grpc-protocol-{triton.ADMIN_HEADER}": KEY})
        # What the gateway, the client and the launcher ask for stays open.
        assert httpx.post(f"{url}/v2/repository/index").json() == []
        assert httpx.get(f"{url}/v2/models/stats").is_success
        assert not client.get_model_repository_index().models
        assert client.is_server_ready()
