"""What a system under test is: it draws an `ImageRequest` and answers with an image file."""

from dataclasses import dataclass
from typing import Protocol

from benchmarks.images.requests import ImageRequest

REQUEST_TIMEOUT = 120.0
"""Seconds after which a request counts as failed."""


@dataclass(frozen=True)
class Steps:
    """Denoising steps that an engine has done since it started, and the images in all of them together."""

    steps: float
    images: float

    def occupancy(self, before: "Steps") -> float | None:
        """Images in a step on average since `before`; None: there was no step."""
        steps = self.steps - before.steps
        return (self.images - before.images) / steps if steps else None


class System(Protocol):
    name: str

    async def draw(self, request: ImageRequest) -> bytes:
        """The image's file.

        Raises:
            DrawingFailed: There was an error, or no answer within `REQUEST_TIMEOUT`.
        """

    async def steps(self) -> Steps | None:
        """What its engine has done so far; None: it has no denoising steps of several requests, or does not tell."""
