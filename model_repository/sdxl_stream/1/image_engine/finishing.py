"""What follows the last denoising step: decoding, then encoding and sending, beside the steps of others."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from PIL import Image

from image_engine.encoding import encode_image
from image_engine.errors import Cancelled, ImageError, InternalError, Unavailable
from image_engine.job import Job
from image_engine.memory import is_out_of_memory
from image_engine.model import ImageModel

_MOST_ENCODERS = 4  # threads


class Finisher:
    """Decodes one request after the other and makes files of several at a time, in threads of its own.

    Only a GPU without CPU offload decodes beside the steps of others. On a CPU both would want all cores, and with CPU
    offload the VAE and the UNet cannot both be on the GPU: there the thread that finishes a request decodes it.

    Args:
        model: The loaded model.
        done: Called once for each request, from any thread, with what ended it: None if its images were sent.
    """

    def __init__(self, model: ImageModel, done: Callable[[Job, Exception | None], None]) -> None:
        self._model = model
        self._done = done
        self._decoding: ThreadPoolExecutor | None = None
        self._stream: torch.cuda.Stream | None = None
        if model.device.type == "cuda" and not model.offloaded:
            self._decoding = ThreadPoolExecutor(1, "image-decoding")
            self._stream = torch.cuda.Stream(model.device)
        self._encoding = ThreadPoolExecutor(min(_MOST_ENCODERS, len(os.sched_getaffinity(0))), "image-encoding")

    def finish(self, job: Job) -> None:
        """Takes over a request whose steps are all done; from now on only the finisher writes to its stream."""
        if self._decoding is None:
            self._decode(job)
            return
        try:
            self._decoding.submit(self._decode, job)
        except RuntimeError:  # stopped, during a step that took longer than that waits
            self._end(job, Unavailable.unloading())

    def stop(self) -> None:
        """Takes no more requests."""
        if self._decoding is not None:
            self._decoding.shutdown(wait=False, cancel_futures=True)
        self._encoding.shutdown(wait=False, cancel_futures=True)

    def _decode(self, job: Job) -> None:
        try:
            if job.stream.is_cancelled():
                raise Cancelled("the request was cancelled")
            with self._on_stream():
                pictures = self._pictures(job)
            job.times.decoded = time.time_ns()
            job.drawings.clear()
            self._encoding.submit(self._send, job, pictures)
        except Exception as error:
            self._end(job, error)

    def _pictures(self, job: Job) -> list[Image.Image]:
        """All images of a request in one call if there is memory for it, else one after the other."""
        latents = [drawing.latents for drawing in job.drawings]
        if len(latents) > 1 and self._model.budget.fits_decoding(job.size, len(latents)):
            try:
                return self._model.decoder.decode(torch.cat(latents))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            self._model.free_memory()
        return [picture for one in latents for picture in self._model.decoder.decode(one)]

    def _on_stream(self) -> AbstractContextManager[Any]:
        """One of its own, so that decoding is not queued behind the denoising steps."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _send(self, job: Job, pictures: list[Image.Image]) -> None:
        try:
            seeds = job.request.seeds
            files = [encode_image(picture, job.request, seed) for picture, seed in zip(pictures, seeds, strict=True)]
            job.stream.send_images(files, seeds)
        except Exception as error:
            self._end(job, error)
        else:
            self._done(job, None)

    def _end(self, job: Job, error: Exception) -> None:
        job.stream.fail(explain(error, job))
        self._done(job, error)


def explain(error: Exception, job: Job) -> ImageError:
    """The error that a client is told of."""
    if isinstance(error, ImageError):
        return error
    if is_out_of_memory(error):
        width, height = job.size
        return InternalError(
            f"drawing failed: {width}x{height} needs more memory than there is: ask for a smaller image, or have "
            "VAE tiling or CPU offload switched on"
        )
    return InternalError(f"drawing failed: {error!r}")


def reason(error: Exception) -> str:
    """The label of metric `fictures_image_failures_total`."""
    if isinstance(error, ImageError):
        return error.code.lower()
    return "out_of_memory" if is_out_of_memory(error) else "internal"
