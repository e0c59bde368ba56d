"""The systems under test. Each draws an `ImageRequest` and answers with a PNG file."""

import asyncio
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from benchmarks.errors import DrawingFailed
from benchmarks.images import plain_pipeline
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, SIDE, ImageRequest

REQUEST_TIMEOUT = 120.0
"""Seconds after which a request counts as failed."""


class System(Protocol):
    name: str

    async def draw(self, request: ImageRequest) -> bytes:
        """The image's file.

        Raises:
            DrawingFailed: There was an error, or no answer within `REQUEST_TIMEOUT`.
        """


class TritonModel:
    """A model of a running Triton, over gRPC.

    Args:
        client: The connection.
        model: The model's name.
        name: What the report calls it.
        batched: Whether Triton batches its requests, which then have a batch dimension of 1.
    """

    def __init__(self, client: triton.InferenceServerClient, model: str, name: str, *, batched: bool) -> None:
        self.name = name
        self._client = client
        self._model = model
        self._batched = batched

    async def draw(self, request: ImageRequest) -> bytes:
        inputs = [
            self._input("prompt", "BYTES", request.prompt.encode()),
            self._input("width", "INT32", SIDE),
            self._input("height", "INT32", SIDE),
            self._input("num_inference_steps", "INT32", request.steps),
            self._input("guidance_scale", "FP32", GUIDANCE_SCALE),
            self._input("seed", "INT64", request.seed),
        ]
        if not self._batched:
            inputs.append(self._input("scheduler", "BYTES", SCHEDULER.encode()))
        try:
            result = await self._client.infer(self._model, inputs, client_timeout=REQUEST_TIMEOUT)
        except InferenceServerException as error:
            raise DrawingFailed(f"{self.name}: {error}") from error
        return bytes(result.as_numpy("image").reshape(-1)[0])

    def _input(self, name: str, datatype: str, value: Any) -> triton.InferInput:
        types = {"BYTES": np.object_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32}
        array = np.array([value], dtype=types[datatype]).reshape([1, 1] if self._batched else [1])
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


class PlainPipeline:
    """The pipeline in a thread of this process, one image after the other.

    Args:
        engine: Folder `sdxl_stream/1` of the server's model repository, see `plain_pipeline.load`.
    """

    name = "plain pipeline"

    def __init__(self, engine: Path) -> None:
        # One thread for good: PyTorch keeps a pool of threads for each thread that calls it.
        self._thread = ThreadPoolExecutor(1, "plain-pipeline")
        self._pipeline = self._thread.submit(_load_quietly, engine)

    async def draw(self, request: ImageRequest) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._draw, request)

    def close(self) -> None:
        """Lets go of the model's memory."""
        del self._pipeline
        self._thread.shutdown(cancel_futures=True)

    def _draw(self, request: ImageRequest) -> bytes:
        try:
            files = plain_pipeline.draw(
                self._pipeline.result(),
                [request.prompt],
                [request.seed],
                width=SIDE,
                height=SIDE,
                steps=request.steps,
                guidance_scale=GUIDANCE_SCALE,
            )
        except Exception as error:
            raise DrawingFailed(f"{self.name}: {error!r}") from error
        return files[0]


def _load_quietly(engine: Path) -> Any:
    """The pipeline, without what the libraries have to say while they load."""
    os.environ.update(TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    warnings.simplefilter("ignore", FutureWarning)
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return plain_pipeline.load(engine)
