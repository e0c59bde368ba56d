"""`sdxl` over gRPC with NVIDIA's perf_analyzer in place of this benchmark's own closed loop: a check on the latter."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from benchmarks import load_tools
from benchmarks.images.loads import LEAST_WAVES, Load, load_of, occupancy
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, ImageRequest
from benchmarks.images.systems import Steps, System


class UnderPerfAnalyzer:
    """The same model as `model`, which draws what is no load.

    Args:
        model: `sdxl` over gRPC.
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
            BenchmarkError: A request was not answered.
        """
        pilot = await self._profile(list(islice(requests, in_flight)), in_flight, seconds)
        wave = max(end for end, _ in pilot) - min(end - latency for end, latency in pilot)
        waves = max(LEAST_WAVES, round(seconds / wave) + 1)
        before = await self.steps()
        done = await self._profile(list(islice(requests, waves * in_flight)), in_flight, seconds)
        return load_of(done, in_flight, occupancy(before, await self.steps()))

    async def _profile(self, requests: list[ImageRequest], in_flight: int, seconds: float) -> list[tuple[float, float]]:
        """When each ended, and after how long; seconds."""
        given = [_tensors(request) for request in requests]
        attempt = partial(load_tools.profile, self.name, self._options, given, in_flight, seconds)
        return done_of(await asyncio.to_thread(load_tools.persistently, attempt, self._say))


def done_of(requests: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """When each request of perf_analyzer's profile ended, and after how long, in that order; seconds."""
    ends = [(each["response_timestamps"][-1], each["timestamp"]) for each in requests]
    return sorted((end / 1e9, (end - start) / 1e9) for end, start in ends)


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
