"""Three Tritons in network namespaces of their own behind one gateway, and what befalls them: a drain, a death, a
partition, each under 48 streams.

Run as root; needs `ip` (Debian: iproute2). Prints what was seen as JSON. Nothing leaves the namespaces, which are
removed at the end together with all that runs in them.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fictures.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[1]
CLONE_NEWNET = 0x40000000
GATEWAY = "http://127.0.0.1:9000"
STREAMS = 48
TOKENS = 250
SHORTS = 20
"""Least short requests, five seconds of them: long enough for some to come while a replica is gone."""
START_TIMEOUT = 240.0
KEEPALIVE = 4
PARTITION = 20.0


def without_settings() -> dict[str, str]:
    """This process' environment, but for what changes what is tried."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


class Network:
    """A namespace for the gateway and those who ask it, one for each replica, and a bridge between them."""

    def __init__(self, replicas: int) -> None:
        self.lab = f"fictures-{os.getpid()}"
        self.replicas = [f"{self.lab}-{number}" for number in range(replicas)]

    def __enter__(self) -> "Network":
        for namespace in (self.lab, *self.replicas):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", self.lab, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.lab, "addr", "add", "10.213.0.1/24", "dev", "bridge")
        ip("-n", self.lab, "link", "set", "bridge", "up")
        for number, namespace in enumerate(self.replicas):
            port = f"port{number}"
            ip("-n", self.lab, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("-n", self.lab, "link", "set", port, "master", "bridge", "up")
            ip("-n", namespace, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        for namespace in (self.lab, *self.replicas):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", namespace)

    @staticmethod
    def address(number: int) -> str:
        return f"10.213.0.{10 + number}"

    def enter(self) -> None:
        """This process is in the lab from now on; call it before there are threads."""
        with open(f"/run/netns/{self.lab}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def connect(self, number: int, *, up: bool) -> None:
        """Plug a replica's cable in or pull it out."""
        ip("-n", self.lab, "link", "set", f"port{number}", "up" if up else "down")


@dataclass
class Replica:
    """`./scripts/serve` with a text model, in a namespace."""

    namespace: str
    address: str
    http_port: int
    logs: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = without_settings() | {
            "SERVE": "text",
            "TRITON_HOST": self.address,
            "TRITON_HTTP_PORT": str(self.http_port),
            "TRITON_GRPC_PORT": "8001",
            "TRITON_METRICS_PORT": "8002",
            "TRITON_SHUTDOWN_TIMEOUT": "60",
        }
        with (self.logs / f"{self.namespace}.log").open("ab") as log:
            command = ["ip", "netns", "exec", self.namespace, ROOT / "scripts/serve"]
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> int:
        """The exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(90)

    def kill_triton(self) -> None:
        state = json.loads((ROOT / f".run/instance-{self.http_port}/state.json").read_text())
        os.kill(state["tritonserver"]["pid"], signal.SIGKILL)

    def restarts(self) -> int:
        """How often the launcher started Triton again because it had died."""
        return (self.logs / f"{self.namespace}.log").read_text().count(": starting again")

    def last_words(self) -> list[str]:
        """Where Triton was when a segmentation fault ended it, as its logs have it."""
        logs = sorted((ROOT / f".run/instance-{self.http_port}/logs").glob("tritonserver.log*"))
        ends = [log.read_text(errors="replace").partition("Signal (11) received.")[1:] for log in logs]
        return ["".join(end)[:1500] for end in ends if end[0]]

    async def serves(self) -> bool:
        url = f"http://{self.address}:{self.http_port}/v2/models/gemma/generate"
        try:
            async with httpx.AsyncClient(timeout=3) as client:
                return (await client.post(url, json={"text_input": "", "health_check": True})).is_success
        except httpx.HTTPError:
            return False

    async def metric(self, name: str) -> float:
        """The sum of a metric of the text model."""
        async with httpx.AsyncClient(timeout=5) as client:
            text = (await client.get(f"http://{self.address}:8002/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(name + "{") and 'model="gemma"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@dataclass
class Seen:
    """How requests ended."""

    begun: int = 0
    complete: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "errors": self.errors,
            "slowest": round(max(self.seconds, default=0), 2),
        }


async def stream(client: httpx.AsyncClient, number: int, seen: Seen) -> None:
    """Read one long stream to its end."""
    body = {"model": "gemma", "prompt": f"Tale {number}", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    options = {"stream_options": {"include_usage": True}, "temperature": 0}
    began = time.monotonic()
    tokens, began_to_come, ended = 0, False, False
    try:
        async with client.stream("POST", f"{GATEWAY}/v1/completions", json=body | options) as answer:
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    if not began_to_come:
                        began_to_come = True
                        seen.begun += 1
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        seen.errors.append(event["error"]["message"])
                        return
                    tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    except httpx.HTTPError as error:
        seen.errors.append(repr(error))
        return
    finally:
        seen.seconds.append(time.monotonic() - began)
    if ended and tokens == TOKENS:
        seen.complete += 1
    else:
        seen.errors.append(f"ended after {tokens} tokens, marked: {ended}")


async def ask(client: httpx.AsyncClient, seen: Seen) -> None:
    """One short request."""
    began = time.monotonic()
    answer = await client.post(f"{GATEWAY}/v1/completions", json={"model": "gemma", "prompt": "a", "max_tokens": 2})
    seen.seconds.append(time.monotonic() - began)
    if answer.is_success:
        seen.complete += 1
    else:
        seen.errors.append(answer.text)


@asynccontextmanager
async def load(client: httpx.AsyncClient) -> AsyncIterator[tuple[Seen, Seen]]:
    """48 streams from before what happens until their end, and short requests, four a second, all the while and on."""
    streams, shorts = Seen(), Seen()
    reading = [asyncio.create_task(stream(client, number, streams)) for number in range(STREAMS)]
    asking: list[asyncio.Task[None]] = []

    async def keep_asking() -> None:
        while True:
            asking.append(asyncio.create_task(ask(client, shorts)))
            await asyncio.sleep(0.25)

    async def all_have_begun() -> bool:
        return streams.begun == STREAMS

    async def enough_asked() -> bool:
        return len(asking) >= SHORTS

    keeping = asyncio.create_task(keep_asking())
    try:
        await wait_for(all_have_begun, 60, "all streams have begun")
        yield streams, shorts
        await asyncio.gather(*reading)
        await wait_for(enough_asked, 60, "short requests were asked")
    finally:
        keeping.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for task in reading:
            task.cancel()


async def wait_for(condition: Callable[[], Any], timeout: float, what: str) -> float:
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > timeout:
            raise SystemExit(f"after {timeout:g} s still not: {what}")
        await asyncio.sleep(0.25)
    return round(time.monotonic() - began, 1)


async def taken_by(replicas: list[Replica]) -> list[float]:
    return [await replica.metric("nv_inference_request_success") for replica in replicas]


async def spread(client: httpx.AsyncClient, replicas: list[Replica]) -> dict[str, Any]:
    """Where 240 requests go, 24 at a time."""
    before = await taken_by(replicas)
    seen = Seen()
    for _ in range(10):
        await asyncio.gather(*(ask(client, seen) for _ in range(24)))
    after = await taken_by(replicas)
    return seen.told() | {"requests": [round(b - a) for a, b in zip(before, after, strict=True)]}


async def drain(client: httpx.AsyncClient, replica: Replica) -> dict[str, Any]:
    """A replica is told to stop while it streams."""
    async with load(client) as (streams, shorts):
        running = await replica.metric("vllm:num_requests_running")
        code = await asyncio.to_thread(replica.stop)
    replica.start()
    back = await wait_for(replica.serves, START_TIMEOUT, "the drained replica is back")
    return {"running": running, "exit": code, "streams": streams.told(), "shorts": shorts.told(), "back after": back}


async def kill(client: httpx.AsyncClient, replica: Replica) -> dict[str, Any]:
    """A replica's Triton dies while it streams."""
    async with load(client) as (streams, shorts):
        running = await replica.metric("vllm:num_requests_running")
        replica.kill_triton()
    back = await wait_for(replica.serves, START_TIMEOUT, "the killed replica is back")
    return {"running": running, "streams": streams.told(), "shorts": shorts.told(), "back after": back}


async def partition(client: httpx.AsyncClient, replica: Replica, network: Network, number: int) -> dict[str, Any]:
    """Nothing gets through to a replica for a while, and nothing says so."""
    async with load(client) as (streams, shorts):
        running = await replica.metric("vllm:num_requests_running")
        network.connect(number, up=False)
        await asyncio.sleep(PARTITION)
        network.connect(number, up=True)
        healed_at = time.monotonic()
        before = 0.0

        async def takes_again() -> bool:
            nonlocal before
            taken = await replica.metric("nv_inference_request_success")
            before, grown = taken, 0 < before < taken
            return grown

        await wait_for(takes_again, 60, "the replica takes requests again")
        back = round(time.monotonic() - healed_at, 1)
    return {"running": running, "streams": streams.told(), "shorts": shorts.told(), "back after": back}


@contextmanager
def gateway(replicas: list[Replica], logs: Path) -> Iterator[None]:
    url = ",".join(f"{replica.address}:8001" for replica in replicas)
    env = without_settings() | {
        "SERVE": "text",
        "TRITON_URL": url,
        "TRITON_KEEPALIVE": str(KEEPALIVE),
        "API_PORT": "9000",
    }
    with (logs / "gateway.log").open("wb") as log:
        process = subprocess.Popen([ROOT / ".venv/bin/fictures", "gateway"], env=env, cwd=logs, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()


async def happen(network: Network, replicas: list[Replica], logs: Path) -> dict[str, Any]:
    for replica in replicas:
        replica.start()
    for replica in replicas:
        await wait_for(replica.serves, START_TIMEOUT, f"{replica.namespace} serves")
    limits = httpx.Limits(max_connections=None)
    with gateway(replicas, logs):
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def healthy() -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    return (await client.get(f"{GATEWAY}/health")).is_success
                return False

            await wait_for(healthy, 30, "the gateway is healthy")
            found: dict[str, Any] = {}
            for name, scenario in (
                ("spread", lambda: spread(client, replicas)),
                ("drain", lambda: drain(client, replicas[0])),
                ("kill", lambda: kill(client, replicas[1])),
                ("partition", lambda: partition(client, replicas[2], network, 2)),
                ("spread at the end", lambda: spread(client, replicas)),
            ):
                before = [replica.restarts() for replica in replicas]
                found[name] = await scenario()
                found[name]["restarts"] = [r.restarts() - b for r, b in zip(replicas, before, strict=True)]
                found[name]["last words"] = [words for replica in replicas for words in replica.last_words()]
                print(name, found[name], file=sys.stderr, flush=True)
            return found


def main(logs: Path, http_ports: list[int]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Network(len(http_ports)) as network:
        network.enter()
        replicas = [
            Replica(namespace, network.address(number), port, logs)
            for number, (namespace, port) in enumerate(zip(network.replicas, http_ports, strict=True))
        ]
        try:
            print(json.dumps(asyncio.run(happen(network, replicas, logs))))
        finally:
            for replica in replicas:
                if replica.process is not None and replica.process.poll() is None:
                    replica.process.terminate()
            for replica in replicas:
                if replica.process is not None:
                    replica.process.wait(90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(port) for port in sys.argv[2:]])
