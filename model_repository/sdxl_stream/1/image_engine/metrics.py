"""The engine's metrics on Triton's metrics port."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import triton_python_backend_utils as pb_utils

_STEP_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]
REASONS = ("invalid_arg", "unavailable", "cancelled", "internal", "out_of_memory")
_BATCH_SIZES = [1, 2, 4, 8, 16, 32]


class Metrics:
    """Made once for each model instance, with its labels."""

    def __init__(self, labels: dict[str, str]) -> None:
        kind = pb_utils.MetricFamily
        self._labels = labels
        self._families: list[Any] = []
        self._waiting = self._metric("requests_waiting", "Requests that wait for their first step", kind.GAUGE)
        self._running = self._metric("requests_running", "Requests that are drawn, decoded or encoded", kind.GAUGE)
        self._batch_size = self._metric(
            "step_images", "Images in a denoising step (batch occupancy)", kind.HISTOGRAM, buckets=_BATCH_SIZES
        )
        self._step_seconds = self._metric(
            "step_seconds", "Duration of a denoising step", kind.HISTOGRAM, buckets=_STEP_SECONDS
        )
        self._images = self._metric("images_total", "Images sent", kind.COUNTER)
        family = kind(
            name="fictures_image_failures_total", description="Requests that failed, by reason", kind=kind.COUNTER
        )
        self._families.append(family)
        self._failures = {reason: family.Metric(labels=labels | {"reason": reason}) for reason in REASONS}

    def requests(self, *, waiting: int, running: int) -> None:
        self._waiting.set(waiting)
        self._running.set(running)

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Measures a denoising step of so many images."""
        began = time.monotonic()
        yield
        self._step_seconds.observe(time.monotonic() - began)
        self._batch_size.observe(images)

    def sent(self, images: int) -> None:
        self._images.increment(images)

    def failed(self, reason: str) -> None:
        """Counts a request that failed for one of `REASONS`."""
        self._failures[reason].increment(1)

    def remove(self) -> None:
        """Call at the end: Triton 2.51's stub crashes on metrics that it finds at its exit."""
        self.__dict__.clear()

    def _metric(self, name: str, description: str, kind: Any, **options: Any) -> Any:
        family = pb_utils.MetricFamily(name=f"fictures_image_{name}", description=description, kind=kind)
        self._families.append(family)
        return family.Metric(labels=self._labels, **options)
