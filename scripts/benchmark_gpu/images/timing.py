"""How long something takes on a device, and what that device could do at best."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_MATRIX = {"cuda": 8192, "cpu": 512}  # rows and columns
_COPIED = {"cuda": 2**32, "cpu": 2**26}  # bytes


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs, and the most memory that PyTorch kept, CUDA graphs' too (bytes; 0 on a CPU)."""

    seconds: list[float]
    peak: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Rates:
    """Measured: floating-point operations of a matrix product, and bytes read and written, both a second."""

    operations: float
    bytes: float


def timed(run: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 1) -> Timing:
    """Runs something `warm_up` times unmeasured, then `repeats` times, each until the device is done."""
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.empty_cache()  # of what was measured before
    for _ in range(warm_up):
        run()
    if is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return Timing(seconds, torch.cuda.max_memory_reserved() if is_cuda else 0)


def rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """What the device reaches with one large matrix product of random numbers, and with one large copy."""
    side = _MATRIX[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = timed(lambda: left @ right, device, 10, 3)
    source = torch.empty(_COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), device, 10, 3)
    return Rates(2 * side**3 / product.median, 2 * len(source) / copy.median)


def operations(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
