"""`sdxl` over gRPC with NVIDIA's perf_analyzer in place of this benchmark's own closed loop: a check on the latter."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from benchmarks import load_tools
from benchmarks.errors import BenchmarkError
from benchmarks.images.loads import LEAST_WAVES, Load, load_of, occupancy
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, ImageRequest
from benchmarks.images.systems import REQUEST_TIMEOUT, Steps, System


class UnderPerfAnalyzer:
    """A system whose closed loop is perf_analyzer's.

    Args:
        model: `sdxl` over gRPC, by which warm-up and single pictures are drawn.
        grpc_url: Host and port of its server.
        say: Is told what goes on.
    """

    name = "sdxl, gRPC, perf_analyzer"

    def __init__(self, model: System, grpc_url: str, say: Callable[[str], None]) -> None:
        self._model = model
        self._options = ["-m", "sdxl", "-i", "grpc", "-u", grpc_url]
        self._say = say

    async def draw(self, request: ImageRequest) -> bytes:
        return await self._model.draw(request)

    async def steps(self) -> Steps | None:
        return await self._model.steps()

    async def closed_loop(self, requests: Iterator[ImageRequest], in_flight: int, seconds: float) -> Load:
        """As `loads.closed_loop`, but with a number of requests that a wave before suggests.

        Raises:
            BenchmarkError: A request was not answered, or perf_analyzer failed or did not end in time.
        """
        pilot = self._profile(requests, in_flight, in_flight, REQUEST_TIMEOUT)
        wave = max(end for end, _ in pilot) - min(end - latency for end, latency in pilot)
        waves = max(LEAST_WAVES, round(seconds / wave) + 1)
        before = await self.steps()
        done = self._profile(requests, waves * in_flight, in_flight, waves * wave)
        return load_of(done, in_flight, occupancy(before, await self.steps()))

    def _profile(
        self, requests: Iterator[ImageRequest], count: int, in_flight: int, seconds: float
    ) -> list[tuple[float, float]]:
        """When each of the next `count` requests ended, and after how long, sorted by end; seconds."""

        def attempt() -> list[dict[str, Any]]:
            given = [_tensors(request) for request in islice(requests, count)]
            return load_tools.profile(self.name, self._options, given, in_flight, seconds)

        with _interruptible():
            found = load_tools.persistently(attempt, self._say)
        if len(found) < count:
            raise BenchmarkError(f"{self.name}: perf_analyzer saw {len(found)} of {count} requests")
        ended = ((each["response_timestamps"][-1], each["timestamp"]) for each in found)
        return sorted((end / 1e9, (end - began) / 1e9) for end, began in ended)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends what runs here, without asyncio: that would let the tool go on to its end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tensors(request: ImageRequest) -> dict[str, list[Any]]:
    return {
        "prompt": [request.prompt],
        "width": [request.side],
        "height": [request.side],
        "num_inference_steps": [request.steps],
        "guidance_scale": [GUIDANCE_SCALE],
        "scheduler": [SCHEDULER],
        "seed": [request.seed],
    }
