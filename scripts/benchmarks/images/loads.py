"""How requests are sent, and what is measured of them."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.errors import DrawingFailed
from benchmarks.images.requests import Arrival, ImageRequest
from benchmarks.images.systems import Steps, System

LEAST_WAVES = 5


@dataclass(frozen=True)
class Load:
    """What became of a load."""

    images_per_second: float
    latencies: Sequence[float]
    """Seconds from a request's sending, or from when it was due, to its image; infinite if it failed."""
    images_per_step: float | None
    """Images in a denoising step on average, over the whole load; None: not known."""
    errors: Sequence[str] = ()


async def closed_loop(system: System, requests: Iterator[ImageRequest], in_flight: int, seconds: float) -> Load:
    """There are always `in_flight` requests under way, for some seconds, and for `LEAST_WAVES` times as many requests.

    Raises `DrawingFailed`.
    """
    done: list[tuple[float, float]] = []  # when, and after how long
    before = await system.steps()
    began = time.perf_counter()

    async def keep_sending() -> None:
        while time.perf_counter() - began < seconds or len(done) <= (LEAST_WAVES - 1) * in_flight:
            sent = time.perf_counter()
            await system.draw(next(requests))
            now = time.perf_counter()
            done.append((now, now - sent))

    await asyncio.gather(*(keep_sending() for _ in range(in_flight)))
    return load_of(done, in_flight, occupancy(before, await system.steps()))


def load_of(done: Sequence[tuple[float, float]], in_flight: int, images_per_step: float | None) -> Load:
    """What became of a closed loop.

    Requests that began together also end together, so that only whole waves of `in_flight` images are counted right:
    those between the end of the first, which fills the system, and the end of the last but one, which has all of the
    last one behind it.

    Args:
        done: When each request ended, and after how long, sorted by end; seconds.
        in_flight: Requests that were always under way.
        images_per_step: In the whole of it, on average.
    """
    waves = len(done) // in_flight - 1
    measured = done[in_flight - 1 : waves * in_flight]
    return Load(
        (len(measured) - 1) / (measured[-1][0] - measured[0][0]),
        [latency for _, latency in measured[1:]],
        images_per_step,
    )


async def replay(system: System, arrivals: Sequence[Arrival]) -> Load:
    """Send every request when it is due, however many are under way, and wait for all the answers."""
    errors: list[str] = []
    before = await system.steps()
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
    took = time.perf_counter() - began
    return Load((len(latencies) - len(errors)) / took, latencies, occupancy(before, await system.steps()), errors)


def occupancy(before: Steps | None, after: Steps | None) -> float | None:
    """Images in a step on average between the two; None: not known."""
    return after.occupancy(before) if before and after else None
