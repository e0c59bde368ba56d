"""Pictures and captions for training, rendered by all cores, the same for the same seed."""

import multiprocessing
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from train_tiny.images.captions import describe
from train_tiny.images.rendering import Frame, render
from train_tiny.images.scene import sample_scene

CAPTIONS_A_SCENE = 4
SIZES = {
    (256, 256): 0.50,
    (384, 256): 0.10,
    (256, 384): 0.08,
    (512, 256): 0.08,
    (384, 384): 0.08,
    (512, 384): 0.08,
    (512, 512): 0.08,
}
"""Width and height in pixels, and how many of the scenes have them."""

_CROPPED = 0.12  # of the scenes
_LARGEST_SCENE = 1.4  # of a cropped picture's sides
_CHUNK = 64  # scenes
_AHEAD = 4  # chunks that a process may be ahead of the reader


@dataclass(frozen=True)
class Chunk:
    """Some scenes of one size."""

    size: tuple[int, int]
    pixels: np.ndarray
    """uint8 [n, height, width, 3]"""
    captions: list[list[str]]
    """[n][CAPTIONS_A_SCENE]"""
    time_ids: np.ndarray
    """float32 [n, 6], as `Frame.time_ids`"""


def render_scenes(count: int, seed: int, workers: int, only: tuple[int, int] | None = None) -> Iterator[Chunk]:
    """`count` scenes for training in chunks, of all `SIZES` or `only` one.

    Processes are started afresh rather than forked, since the caller may hold a GPU.
    """
    shares = {only: 1.0} if only else SIZES
    jobs: list[tuple[str, tuple[int, int], int]] = []
    for (width, height), share in shares.items():
        wanted = max(1, round(count * share))
        for start in range(0, wanted, _CHUNK):
            name = f"{seed} {width}x{height} {start}"
            jobs.append((name, (width, height), min(_CHUNK, wanted - start)))
    waiting = threading.Semaphore(_AHEAD * workers)  # else the pictures of a slow reader would fill the memory

    def admitted() -> Iterator[tuple[str, tuple[int, int], int]]:
        for job in jobs:
            waiting.acquire()
            yield job

    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        try:
            for chunk in pool.imap(_render_chunk, admitted()):
                yield chunk
                waiting.release()
        finally:
            waiting.release(len(jobs))  # the pool's thread must not wait when the reader has left


def example_captions(count: int, seed: int) -> list[str]:
    """Captions as in training, without their pictures."""
    rng = random.Random(f"{seed} captions")
    return [describe(sample_scene(rng), rng) for _ in range(count)]


def _render_chunk(job: tuple[str, tuple[int, int], int]) -> Chunk:
    name, size, count = job
    rng = random.Random(name)
    pixels, captions, time_ids = [], [], []
    for _ in range(count):
        scene, frame = sample_scene(rng), _frame(rng, *size)
        pixels.append(render(scene, frame))
        captions.append([describe(scene, rng) for _ in range(CAPTIONS_A_SCENE)])
        time_ids.append(frame.time_ids)
    return Chunk(size, np.stack(pixels), captions, np.array(time_ids, dtype=np.float32))


def _frame(rng: random.Random, width: int, height: int) -> Frame:
    if rng.random() >= _CROPPED:
        return Frame.whole(width, height)
    scale = rng.uniform(1.05, _LARGEST_SCENE)
    wide, high = round(width * scale), round(height * scale)
    return Frame(width, height, wide, high, rng.randint(0, wide - width), rng.randint(0, high - height))
