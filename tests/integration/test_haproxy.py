"""docker/haproxy/haproxy.cfg before two gateways: the real HAProxy, real gateways, and a Triton of scripted answers."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from conftest import ROOT, free_ports, wait_for
from fake_triton import FakeTriton
from fictures.settings import VARIABLES, Settings

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONFIGURATION = ROOT / "docker/haproxy/haproxy.cfg"
TEXT, STREAM = "/api/v1/text/generate", "/api/v1/text/stream"

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: apt install haproxy)")


@dataclass
class Site:
    """HAProxy, its gateways and their Triton."""

    client: httpx.Client
    triton: FakeTriton
    gateways: list[subprocess.Popen[bytes]]
    ports: list[int]
    socket: Path

    def tell(self, command: str) -> str:
        """HAProxy's answer to a command on its socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile().read()

    def both_take_requests(self) -> bool:
        return self.tell("show stat").count(",UP,") == 3  # the servers, and the backend of both

    def busy(self) -> list[int]:
        """Requests under way in each gateway, but for the question itself."""
        pages = [httpx.get(f"http://127.0.0.1:{port}/metrics").text for port in self.ports]
        pattern = re.compile(r"^fictures_gateway_requests_running (\S+)", re.MULTILINE)
        return [int(float(pattern.findall(page)[0])) - 1 for page in pages]


def configuration(folder: Path, authority: trustme.CA, port: int, gateways: list[int]) -> Path:
    """The file, with this machine's addresses in it."""
    certificate = folder / "fictures.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    text = CONFIGURATION.read_text()
    changes = {
        "/run/haproxy-fictures.sock": str(folder / "socket"),
        "/etc/haproxy/fictures.pem": str(certificate),
        "bind :443": f"bind 127.0.0.1:{port}",
        "10.0.0.11:9000": f"127.0.0.1:{gateways[0]}",
        "10.0.0.12:9000": f"127.0.0.1:{gateways[1]}",
    }
    if os.geteuid():  # only root can become another user
        changes |= {"    user haproxy\n": "", "    group haproxy\n": ""}
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    return file


def test_haproxy_takes_the_configuration_without_a_warning(tmp_path: Path) -> None:
    file = configuration(tmp_path, trustme.CA(), 443, [9000, 9001])
    run = subprocess.run([HAPROXY, "-c", "-dW", "-f", file], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stdout + run.stderr


def test_haproxy_waits_longer_than_the_gateway_does() -> None:
    for side in ("client", "server"):
        (seconds,) = re.findall(rf"timeout {side} (\d+)s", CONFIGURATION.read_text())
        assert int(seconds) > Settings.model_fields["api_request_timeout"].default


@contextmanager
def running(folder: Path, *, one_is_cut_off: bool = False) -> Iterator[Site]:
    triton = FakeTriton()
    port, *ports = free_ports(3)
    urls = [triton.url, "127.0.0.1:1" if one_is_cut_off else triton.url]
    authority = trustme.CA()
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    with ExitStack() as stack:
        stack.callback(triton.stop)
        log = stack.enter_context((folder / "log").open("ab"))

        def start(*command: str | Path) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, env=clean, cwd=folder, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            return process

        fictures = Path(sys.executable).with_name("fictures")
        gateways = [
            start(fictures, "gateway", "--url", url, "--port", str(each)) for url, each in zip(urls, ports, strict=True)
        ]
        assert HAPROXY is not None
        start(HAPROXY, "-db", "-f", configuration(folder, authority, port, ports))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        client = stack.enter_context(httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=30))
        site = Site(client, triton, gateways, ports, folder / "socket")
        wait_for(site.socket.exists, 60, f"HAProxy ({folder / 'log'})")
        wait_for(site.both_take_requests, 60, f"gateways that are up ({folder / 'log'})")
        yield site


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    wait_for(lambda: shared.busy() == [0, 0], 30, "gateways at rest")
    shared.triton.cancelled.clear()
    return shared


def test_a_request_goes_to_the_gateway_with_the_fewest(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(site.client.stream("POST", STREAM, json={"prompt": "silent"}))
        assert site.busy() == [3, 3]


def test_a_gateway_that_is_drained_gets_no_more_requests(site: Site) -> None:
    site.tell("set server gateways/gateway-1 state drain")
    try:
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(site.client.stream("POST", STREAM, json={"prompt": "silent"}))
            assert site.busy() == [0, 4]
    finally:
        site.tell("set server gateways/gateway-1 state ready")


def test_metrics_are_for_nobody_outside(site: Site) -> None:
    assert site.client.get("/metrics").status_code == 403
    assert site.client.get("/health").status_code in (200, 503)


def test_a_stream_comes_piece_by_piece_and_ends_with_its_client(site: Site) -> None:
    with site.client.stream("POST", STREAM, json={"prompt": "silent"}) as answer:
        assert answer.status_code == 200
        assert '"text":"one "' in next(answer.iter_lines())
        assert not site.triton.cancelled.is_set()
    assert site.triton.cancelled.wait(30)


def test_who_leaves_before_the_answer_frees_the_engine(site: Site) -> None:
    with pytest.raises(httpx.ReadTimeout):
        site.client.post(TEXT, json={"prompt": "silent"}, timeout=1)
    assert site.triton.cancelled.wait(30)


def test_what_no_gateway_can_do_is_answered_in_their_words(site: Site) -> None:
    answer = site.client.post(TEXT, json={"prompt": "abort UNAVAILABLE"})
    assert answer.status_code == 503
    assert answer.json() == {"detail": "aborted as UNAVAILABLE"}
    assert int(answer.headers["retry-after"]) > 0


def test_a_gateway_that_cannot_reach_triton_costs_no_request(tmp_path: Path) -> None:
    with running(tmp_path, one_is_cut_off=True) as site, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(site.client.post, TEXT, json={"prompt": "hello"}) for _ in range(40)]
        assert [each.result().status_code for each in asked] == [200] * 40
        assert "status=503" in (tmp_path / "log").read_text(), "the other was asked, too"


def test_a_gateway_that_is_stopped_ends_its_streams_and_no_request_is_lost(tmp_path: Path) -> None:
    with running(tmp_path) as site, site.client.stream("POST", STREAM, json={"prompt": "endless"}) as answer:
        lines = (line for line in answer.iter_lines() if line)
        next(lines)
        stopped = site.gateways[site.busy().index(1)]
        stopped.send_signal(signal.SIGTERM)
        for _ in range(20):
            assert site.client.post(TEXT, json={"prompt": "hello"}).status_code == 200
            time.sleep(0.1)
        assert stopped.poll() is None
        assert '"more "' in next(lines)
        site.triton.cancelled.set()  # the model ends the stream in the middle
        assert '"error"' in list(lines)[-1]
        stopped.wait(60)
