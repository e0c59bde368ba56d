"""Chromium on the page of a server whose texts do not end by themselves. It notes what a page must not do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from conftest import Server, free_ports, make_random_gemma, running_server, wait_for

PATIENCE = 30  # seconds
FICTURES = Path(sys.executable).with_name("fictures")

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed with the module: while it is open, its event loop is in the way of tests that are asynchronous."""
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """In place of the server that all other tests share."""
    folder = tmp_path_factory.mktemp("browser")
    with running_server(folder, TEXT_MODEL_NAME=str(make_random_gemma())) as running:
        yield running


@pytest.fixture
def expected() -> list[str]:
    """For parts of what the console will say in a test, which otherwise fails of it."""
    return []


@pytest.fixture
def visit(chromium: Browser, expected: list[str]) -> Iterator[Callable[[str], Page]]:
    """Opens a server's page; a test fails of errors in the console, broken policies and requests to anybody else."""
    contexts, faults = [], []

    def opened(url: str) -> Page:
        contexts.append(chromium.new_context())
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)
        own = (f"{url}/", f"blob:{url}/", "data:")
        page.on("request", lambda it: it.url.startswith(own) or faults.append(f"asked {it.url}"))
        page.on("console", lambda it: it.type in ("error", "warning") and faults.append(it.text))
        page.on("pageerror", lambda it: faults.append(str(it)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not any(part in fault for part in expected)] == []


@pytest.fixture
def page(visit: Callable[[str], Page], server: Server) -> Page:
    """The server's page."""
    return visit(server.api_url)


@dataclass(frozen=True)
class Guarded:
    """A gateway that asks for a key."""

    url: str
    key: str


@pytest.fixture
def guarded(server: Server, tmp_path: Path) -> Iterator[Guarded]:
    """One more gateway of the same Triton, stopped by its own pid."""
    keys = tmp_path / "keys"
    create = [FICTURES, "keys", "create", "reader", "--file", keys]
    key = subprocess.run(create, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [FICTURES, "gateway", "--port", str(port), "--url", server.grpc_url]
    log = tmp_path / "gateway.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=server.env | {"API_KEYS_FILE": str(keys)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: process.poll() is not None or is_live(url), 60, f"a gateway ({log})")
        assert process.poll() is None, log.read_text()
        yield Guarded(url, key)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"the gateway did not stop within 60 s of SIGTERM; see {log}")


def is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=5).is_success
    except httpx.HTTPError:
        return False
