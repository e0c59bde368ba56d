"""What is asked for, and when: requests with a mix of step counts, and a Poisson process of arrivals."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GUIDANCE_SCALE = 7.5
SCHEDULER = "dpmpp_2m_karras"
_BLOCK = 4  # of each step count in a block of `mixed`


@dataclass(frozen=True)
class Work:
    """What is asked for."""

    side: int = 256
    """Width and height of every image, in pixels."""
    steps: int = 8
    """Denoising steps where they are not mixed."""

    @property
    def mixed_steps(self) -> tuple[int, ...]:
        """From half as many to twice as many."""
        return tuple(max(1, self.steps * halves // 2) for halves in (1, 2, 3, 4))


@dataclass(frozen=True)
class ImageRequest:
    """One image. Every request has a prompt of its own: prompts that come again may be cheaper."""

    seed: int
    side: int
    steps: int

    @property
    def prompt(self) -> str:
        return f"A lighthouse at night, number {self.seed}"


@dataclass(frozen=True)
class Arrival:
    """A request that is to be sent `time` seconds after the start, however long those before it take."""

    time: float
    request: ImageRequest


def alike(work: Work, source: random.Random) -> Iterator[ImageRequest]:
    """Requests without end, of the same number of steps."""
    while True:
        yield ImageRequest(_seed(source), work.side, work.steps)


def mixed(work: Work, source: random.Random) -> Iterator[ImageRequest]:
    """Requests without end, with the step counts in random order, but in every block of 16 each equally often."""
    while True:
        block = list(work.mixed_steps) * _BLOCK
        source.shuffle(block)
        for steps in block:
            yield ImageRequest(_seed(source), work.side, steps)


def poisson(work: Work, rate: float, seconds: float, source: random.Random) -> Sequence[Arrival]:
    """The arrivals of a Poisson process.

    Args:
        work: What they ask for, each with one of its mixed counts of steps.
        rate: How many come in a second, on average.
        seconds: When the last of them has come.
        source: The same state gives the same arrivals.
    """
    arrivals: list[Arrival] = []
    time = source.expovariate(rate)
    while time < seconds or not arrivals:
        arrivals.append(Arrival(time, ImageRequest(_seed(source), work.side, source.choice(work.mixed_steps))))
        time += source.expovariate(rate)
    return arrivals


def _seed(source: random.Random) -> int:
    return source.getrandbits(31)
