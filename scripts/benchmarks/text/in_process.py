"""The server's text engine without any server, in a process of its own that only makes requests: what every server
comes near to at best.

No tool makes requests inside a process, so this has a loop of its own. It gives the same account of each request as
perf_analyzer, so that what follows treats both alike.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks import load_tools
from benchmarks.errors import BenchmarkError
from benchmarks.server import started, wait_until
from launcher.layout import ROOT, RUN, shown

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

NAME = "engine in process"
_START_TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Load:
    """What is asked from the engine at once."""

    prompts: Sequence[str]
    sampling: Mapping[str, Any]
    """Of each request, by the names of vLLM's `SamplingParams`."""
    is_streaming: bool
    """Whether text is handed out as it comes, or in one piece."""
    in_flight: int
    """Requests that are always under way until there are no more."""


class EngineInProcess:
    """The engine, from this side of the process that it lives in.

    Args:
        connection: To that process.
        pid: Its process id.
        log: The file for all that it prints.
    """

    def __init__(self, connection: "Connection[Any, Any]", pid: int, log: Path) -> None:
        self.pid = pid
        self._connection = connection
        self._log = log

    def answer(self, load: Load, seconds: float) -> list[dict[str, Any]]:
        """Every request of a load as perf_analyzer accounts for it, times in nanoseconds; besides, its `text` and how
        many `tokens` that has.

        Args:
            load: What is asked.
            seconds: That it takes about.

        Raises:
            BenchmarkError: The process ended, or took `load_tools.GRACE` longer.
        """
        try:
            self._connection.send(load)
            if not self._connection.poll(seconds + load_tools.GRACE):
                raise BenchmarkError(
                    f"{NAME} has not answered for {seconds + load_tools.GRACE:.0f} s: see {shown(self._log)}"
                )
            return cast(list[dict[str, Any]], self._connection.recv())
        except (EOFError, OSError) as error:
            raise BenchmarkError(f"{NAME} ended: see {shown(self._log)}") from error


@contextmanager
def running(
    arguments: Mapping[str, Any], variables: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[EngineInProcess]:
    """The engine in a process of its own, from ready to stopped.

    Args:
        arguments: Of the engine, by the names of `AsyncEngineArgs`.
        variables: The process's environment, besides where it finds this package.
        say: Is told what goes on.

    Raises:
        BenchmarkError: It does not start or does not stop.
    """
    say(f"starting the {NAME}")
    path = ":".join(filter(None, (str(ROOT / "scripts"), str(ROOT / "backends/vllm"), variables.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
        log, address = RUN / f"{Path(folder).name}.log", str(Path(folder) / "engine")
        command = [sys.executable, "-P", "-m", __name__, address, json.dumps(arguments)]
        own = {"PYTHONPATH": path, "VLLM_RPC_BASE_PATH": folder}  # where vLLM's sockets go with this process
        process = stack.enter_context(started(NAME, command, {**variables, **own}, log))
        connections: list[Connection[Any, Any]] = []

        def is_ready() -> bool:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                connections.append(stack.enter_context(Client(address)))
            return bool(connections)

        wait_until(is_ready, process, NAME, log, _START_TIMEOUT)
        yield EngineInProcess(connections[0], process.pid, log)


def _main(address: str, arguments: str) -> None:
    """In the process: starts the engine, and takes loads until the other side goes away."""
    import uvloop

    uvloop.run(_serve(address, json.loads(arguments)))


async def _serve(address: str, arguments: dict[str, Any]) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    from text_backend.start import spare_what_is_loaded, start_engine

    engine = start_engine(AsyncEngineArgs(**arguments), fork=False)
    spare_what_is_loaded()
    with Listener(address) as listener, listener.accept() as connection, suppress(EOFError):
        while True:
            load = await asyncio.to_thread(connection.recv)
            connection.send(await _requests(engine, load))


async def _requests(engine: "AsyncLLM", load: Load) -> list[dict[str, Any]]:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    kind = RequestOutputKind.DELTA if load.is_streaming else RequestOutputKind.FINAL_ONLY
    numbered = zip(itertools.count(), load.prompts, strict=False)
    found = []

    async def stream() -> None:
        for number, prompt in numbered:
            sampling = SamplingParams(**load.sampling, output_kind=kind)
            began, moments, pieces, tokens = time.time_ns(), [], [], 0
            async for output in engine.generate(prompt, sampling, str(number)):
                moments.append(time.time_ns())
                pieces.append(output.outputs[0].text)
                tokens += len(output.outputs[0].token_ids)
            text = "".join(pieces)
            found.append({"timestamp": began, "response_timestamps": moments, "text": text, "tokens": tokens})

    async with asyncio.TaskGroup() as group:
        for _ in range(load.in_flight):
            group.create_task(stream())
    return found


if __name__ == "__main__":
    _main(*sys.argv[1:])
