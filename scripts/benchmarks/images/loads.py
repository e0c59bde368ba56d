"""How requests are sent, and what is measured of them."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.errors import DrawingFailed
from benchmarks.images.requests import Arrival, ImageRequest
from benchmarks.images.systems import System


@dataclass(frozen=True)
class Replay:
    """What became of a series of arrivals."""

    latencies: Sequence[float]
    """Seconds from the moment a request was due, whenever it really was sent, to its image; infinite if it failed."""
    errors: Sequence[str]

    def percentile(self, percent: float) -> float:
        """The smallest latency that at least `percent` of the requests do not exceed (nearest rank)."""
        ranked = sorted(self.latencies)
        return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


async def at_once(system: System, requests: Sequence[ImageRequest]) -> float:
    """Images a second when all requests are sent at the same time. Raises `DrawingFailed`."""
    began = time.perf_counter()
    await asyncio.gather(*map(system.draw, requests))
    return len(requests) / (time.perf_counter() - began)


async def one_after_another(system: System, requests: Sequence[ImageRequest]) -> float:
    """Images a second when each request is sent after the answer to the one before. Raises `DrawingFailed`."""
    began = time.perf_counter()
    for request in requests:
        await system.draw(request)
    return len(requests) / (time.perf_counter() - began)


async def saturate(system: System, requests: Iterator[ImageRequest], in_flight: int, seconds: float) -> float:
    """Images a second when there are always `in_flight` requests under way.

    The first `in_flight` images fill the system; it is measured from the last of those to the last one drawn within
    `seconds`, or until there are twice as many more, if that takes longer. Raises `DrawingFailed`.
    """
    done: list[float] = []
    began = time.perf_counter()

    async def keep_sending() -> None:
        while time.perf_counter() - began < seconds or len(done) < 3 * in_flight:
            await system.draw(next(requests))
            done.append(time.perf_counter())

    await asyncio.gather(*(keep_sending() for _ in range(in_flight)))
    measured = done[in_flight - 1 : len(done) - in_flight + 1]  # the last ones had no others behind them
    return (len(measured) - 1) / (measured[-1] - measured[0])


async def replay(system: System, arrivals: Sequence[Arrival]) -> Replay:
    """Send every request when it is due, however many are under way, and wait for all the answers."""
    errors: list[str] = []
    began = time.perf_counter()

    async def send(arrival: Arrival) -> float:
        await asyncio.sleep(began + arrival.time - time.perf_counter())
        try:
            await system.draw(arrival.request)
        except DrawingFailed as error:
            errors.append(str(error))
            return math.inf
        return time.perf_counter() - began - arrival.time

    latencies = await asyncio.gather(*map(send, arrivals))
    return Replay(latencies, errors)
