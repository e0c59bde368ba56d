"""The plain pipeline and the server's image engine without any server, the former in a process of its own.

In one process they would not be what they are alone: the more threads OpenMP has there, the sooner it puts them to
sleep between two operations, and with both models' threads a small model's step takes twice as long. Both stay loaded,
and the one that waits takes no processor time. Both have as many of PyTorch's threads as the server's engine, one for
each core.
"""

import asyncio
import importlib.machinery
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.errors import BenchmarkError, DrawingFailed
from benchmarks.images import plain_pipeline
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, ImageRequest
from benchmarks.images.systems import REQUEST_TIMEOUT, Steps

_TRITON = "triton_python_backend_utils"
_LOAD_TIMEOUT = 600.0  # seconds


class PlainPipeline:
    """The pipeline in a process of its own, one image after the other.

    Args:
        folder: Folder `sdxl_stream/1` of the server's model repository, see `plain_pipeline.load`.

    Raises:
        BenchmarkError: It cannot be loaded.
    """

    name = "plain pipeline"

    def __init__(self, folder: Path) -> None:
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._turn = asyncio.Lock()  # the pool would take up more, and draw them all before it ends
        try:
            failure = self._process.submit(_load_pipeline, folder).result(_LOAD_TIMEOUT)
        except Exception as error:  # the process ended, or is not done
            failure = repr(error)
        if failure:
            raise BenchmarkError(f"the {self.name} could not be loaded: {failure}")

    async def draw(self, request: ImageRequest) -> bytes:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT), self._turn:
                return await asyncio.get_running_loop().run_in_executor(self._process, _draw, request)
        except Exception as error:
            raise DrawingFailed(f"{self.name}: {error!r}") from error

    async def steps(self) -> None:
        return None

    def close(self) -> None:
        """Ends the process."""
        self._process.shutdown(cancel_futures=True)


class Engine:
    """The server's engine as `sdxl_stream/1/model.py` drives it for `sdxl`, but without Triton.

    Args:
        folder: Folder `sdxl_stream/1` of the server's model repository, with the engine's code and settings.

    Raises:
        BenchmarkError: It cannot be loaded.
    """

    name = "engine in process"

    def __init__(self, folder: Path) -> None:
        _quieten()
        _stand_in_for_triton()
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        from image_engine.config import ModelSettings, ModelSetup
        from image_engine.engine import ImageEngine
        from image_engine.errors import SetupError

        settings = ModelSettings.model_validate_json((folder / "model.json").read_bytes())
        self._counter = _Counter()
        self._engine = ImageEngine(ModelSetup(settings, {}, lazy=False), self._counter, _Log())
        try:
            self._engine.start()
        except SetupError as error:
            raise BenchmarkError(f"the engine cannot be loaded: {error}") from error

    async def draw(self, request: ImageRequest) -> bytes:
        from image_engine.errors import ImageError
        from image_engine.request import ImageRequest as EngineRequest

        stream = _Stream()
        parsed = EngineRequest(
            prompt=request.prompt,
            negative_prompt=None,
            width=request.side,
            height=request.side,
            num_inference_steps=request.steps,
            guidance_scale=GUIDANCE_SCALE,
            seeds=(request.seed,),
            scheduler=SCHEDULER,
            output_format="png",
            base64=False,
            preview_every=0,
            relayed=True,
            cancel_key=None,
            request_id="",
            trace_headers={},
        )
        try:
            self._engine.submit(parsed, stream)
            return await asyncio.wait_for(stream.file, REQUEST_TIMEOUT)
        except (ImageError, TimeoutError) as error:
            raise DrawingFailed(f"{self.name}: {error!r}") from error

    async def steps(self) -> Steps:
        return self._counter.total()

    def close(self) -> None:
        """Ends its threads and lets go of the model's memory."""
        self._engine.stop()
        del self._engine


class _Stream:
    """Takes the answer to one request in place of Triton's response sender, from any of the engine's threads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.file: asyncio.Future[bytes] = self._loop.create_future()
        self.finished = False

    def is_cancelled(self) -> bool:
        return False

    def send_images(self, files: list[bytes], _: tuple[int, ...]) -> None:
        self._finish(self.file.set_result, files[0])

    def fail(self, error: Exception) -> None:
        self._finish(self.file.set_exception, error)

    def _finish(self, settle: Any, outcome: Any) -> None:
        self.finished = True
        self._loop.call_soon_threadsafe(lambda: self.file.done() or settle(outcome))


class _Counter:
    """In place of Triton's metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps = self._images = 0

    def total(self) -> Steps:
        with self._lock:
            return Steps(self._steps, self._images)

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        yield
        with self._lock:
            self._steps += 1
            self._images += images

    def requests(self, *, waiting: int, running: int) -> None:
        """Not counted, as all below."""

    def sent(self, images: int) -> None: ...

    def failed(self, reason: str) -> None: ...


class _Log:
    """In place of Triton's log: what goes wrong reaches the benchmark as the request's error."""

    def log_info(self, line: str) -> None: ...

    def log_warn(self, line: str) -> None: ...

    def log_error(self, line: str) -> None: ...


def _stand_in_for_triton() -> None:
    """Triton's module for Python models, which only its own processes have; the engine's files name it where they
    read requests and send answers.
    """
    if _TRITON not in sys.modules:
        module = ModuleType(_TRITON)
        module.__spec__ = importlib.machinery.ModuleSpec(_TRITON, None)
        module.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1  # type: ignore[attr-defined]
        sys.modules[_TRITON] = module


_pipeline: Any = None  # in the process of the plain pipeline


def _load_pipeline(folder: Path) -> str | None:
    """What went wrong."""
    global _pipeline
    import torch

    _quieten()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        _pipeline = plain_pipeline.load(folder)
    except Exception as error:  # of a kind that only this process knows
        return str(error)
    return None


def _draw(request: ImageRequest) -> bytes:
    (file,) = plain_pipeline.draw(
        _pipeline,
        [request.prompt],
        [request.seed],
        width=request.side,
        height=request.side,
        steps=request.steps,
        guidance_scale=GUIDANCE_SCALE,
    )
    return file


def _quieten() -> None:
    """Keeps the libraries from saying what they do while they load."""
    os.environ.update(TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    warnings.simplefilter("ignore", FutureWarning)
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
