"""The answers to one request: one writer, and exactly one final response.

A stream is written by one thread at a time: the one that read the request until it is given to the engine, the
engine's from then on, and the one that makes the files at the end.

Only outputs that the request asks for are sent: Triton's Python backend frees others without Python's lock, which ends
this process with Python 3.12 and can spoil its memory with others.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from image_engine.errors import ImageError

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class ResponseStream:
    """The responses of one request. After the final one, sending is an error and failing is ignored.

    Triton cannot unload a model as long as a sender exists, so it is let go with the final response.

    Args:
        sender: Triton's.
        wanted: The outputs that the request asks for.
    """

    def __init__(self, sender: Any, wanted: Collection[str]) -> None:
        self._sender = sender
        self._wanted = wanted
        self.relayed = False
        """Whether `sdxl` asks: it is told of an error in place of an image, since Triton 2.51 neither passes an error's
        status on to another model (BLS) nor, after a first response, the error itself."""

    @property
    def finished(self) -> bool:
        return self._sender is None

    def send_step(self, step: int, total_steps: int, previews: list[bytes]) -> None:
        """One denoising step is done; nothing for a request that asks for nothing of it."""
        tensors = [_numbers("step", [step], np.int32), _numbers("total_steps", [total_steps], np.int32)]
        if previews:
            tensors.append(_files("preview", previews))
        if wanted := self._wanted_of(tensors):
            self._sender.send(pb_utils.InferenceResponse(wanted))

    def send_acceptance(self) -> None:
        """Tells `sdxl` that the request has arrived: until a first response comes, Triton keeps one of the caller's
        threads waiting, of which it has 32 for all of its requests, answers and cancellations.
        """
        self._sender.send(pb_utils.InferenceResponse([]))

    def send_images(self, files: list[bytes], seeds: tuple[int, ...]) -> None:
        """The end, with a file and a seed for each image."""
        tensors = [_files("image", files), _numbers("seed", seeds, np.int64)]
        self._finish(pb_utils.InferenceResponse(self._wanted_of(tensors)))

    def send_empty(self) -> None:
        """The end, with nothing: the answer to a health check or a cancellation."""
        self.send_images([], ())

    def fail(self, error: ImageError) -> None:
        """Ends the stream with an error, unless it has ended. Never raises: there is nobody left to tell."""
        if self.finished:
            return
        try:
            self._finish(self._told(error))
        except Exception as failure:
            pb_utils.Logger.log_error(f"[image] a stream could not be ended with {error!r}: {failure!r}")

    def is_cancelled(self) -> bool:
        return not self.finished and self._sender.is_cancelled()

    def _told(self, error: ImageError) -> Any:
        if self.relayed:
            report = f"{error.code}: {error}".encode()
            return pb_utils.InferenceResponse([_files("image", [report]), _numbers("seed", [], np.int64)])
        return pb_utils.InferenceResponse(
            error=pb_utils.TritonError(str(error), getattr(pb_utils.TritonError, error.code))
        )

    def _wanted_of(self, tensors: list[Any]) -> list[Any]:
        return [tensor for tensor in tensors if tensor.name() in self._wanted]

    def _finish(self, response: Any) -> None:
        sender, self._sender = self._sender, None
        sender.send(response, flags=_FINAL)


def _files(name: str, files: list[bytes]) -> Any:
    array = np.empty(len(files), dtype=np.object_)
    array[:] = files
    return pb_utils.Tensor(name, array)


def _numbers(name: str, values: Any, kind: type) -> Any:
    return pb_utils.Tensor(name, np.array(values, dtype=kind))
