"""One request on its way through the engine."""

import time
from dataclasses import dataclass, field

from image_engine.batching import Size
from image_engine.denoising import Drawing
from image_engine.request import ImageRequest
from image_engine.responses import ResponseStream


@dataclass
class Times:
    """When a request got how far, in nanoseconds since 1970; None: not yet."""

    arrived: int = field(default_factory=time.time_ns)
    started: int | None = None
    denoised: int | None = None
    decoded: int | None = None

    def durations(self) -> dict[str, float]:
        """Seconds of each part of the way that is done."""
        parts = (
            ("time_in_queue", self.arrived, self.started),
            ("time_in_denoising", self.started, self.denoised),
            ("time_in_decoding", self.denoised, self.decoded),
        )
        return {name: (end - begin) / 1e9 for name, begin, end in parts if begin is not None and end is not None}


@dataclass(eq=False)
class Job:
    """A request, where its answers go, and how far its images are."""

    request: ImageRequest
    stream: ResponseStream
    drawings: list[Drawing] = field(default_factory=list)
    """Empty until its first step."""
    times: Times = field(default_factory=Times)

    @property
    def size(self) -> Size:
        return self.request.size

    @property
    def image_count(self) -> int:
        return self.request.image_count

    @property
    def step(self) -> int:
        """Steps that all of its images have done."""
        return min(drawing.step for drawing in self.drawings)

    @property
    def total_steps(self) -> int:
        return self.drawings[0].total_steps

    @property
    def denoised(self) -> bool:
        return self.step == self.total_steps

    @property
    def wants_preview(self) -> bool:
        """Whether a preview goes with the step that was just done."""
        every = self.request.preview_every
        return every > 0 and self.step % every == 0 and not self.denoised
