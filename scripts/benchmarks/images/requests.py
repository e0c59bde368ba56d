"""What is asked for, and when: requests with a mix of step counts, and a Poisson process of arrivals."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIDE = 256
"""Width and height of every image, in pixels."""
STEPS = 8
"""Denoising steps where they are not mixed."""
MIXED_STEPS = (4, 8, 12, 16)
GUIDANCE_SCALE = 7.5
SCHEDULER = "dpmpp_2m_karras"
_BLOCK = 4  # of each step count in a block of `mixed`


@dataclass(frozen=True)
class ImageRequest:
    """One image. Every request has a prompt of its own: prompts that come again may be cheaper."""

    seed: int
    steps: int = STEPS

    @property
    def prompt(self) -> str:
        return f"A lighthouse at night, number {self.seed}"


@dataclass(frozen=True)
class Arrival:
    """A request that is to be sent `time` seconds after the start, however long those before it take."""

    time: float
    request: ImageRequest


def alike(source: random.Random) -> Iterator[ImageRequest]:
    """Requests without end, of `STEPS` steps."""
    while True:
        yield ImageRequest(_seed(source))


def mixed(source: random.Random) -> Iterator[ImageRequest]:
    """Requests without end, with the step counts in random order, but in every block of 16 each equally often."""
    while True:
        block = list(MIXED_STEPS) * _BLOCK
        source.shuffle(block)
        for steps in block:
            yield ImageRequest(_seed(source), steps)


def poisson(rate: float, seconds: float, source: random.Random) -> Sequence[Arrival]:
    """The arrivals of a Poisson process.

    Args:
        rate: How many come in a second, on average.
        seconds: When the last of them has come.
        source: The same state gives the same arrivals. Step counts are drawn uniformly from `MIXED_STEPS`.
    """
    arrivals: list[Arrival] = []
    time = source.expovariate(rate)
    while time < seconds or not arrivals:
        arrivals.append(Arrival(time, ImageRequest(_seed(source), source.choice(MIXED_STEPS))))
        time += source.expovariate(rate)
    return arrivals


def _seed(source: random.Random) -> int:
    return source.getrandbits(31)
