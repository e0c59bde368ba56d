"""The plain pipeline and the server's image engine in this process, without any server.

Both stay loaded, and the one that waits takes no processor time. Both have as many threads of PyTorch's for an
operation as the server's engine has, one for each core.
"""

import asyncio
import importlib.machinery
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.errors import BenchmarkError, DrawingFailed
from benchmarks.images import plain_pipeline
from benchmarks.images.requests import GUIDANCE_SCALE, SCHEDULER, ImageRequest
from benchmarks.images.systems import REQUEST_TIMEOUT, Steps

_TRITON = "triton_python_backend_utils"


class PlainPipeline:
    """The pipeline in a thread of this process, one image after the other.

    Args:
        folder: Folder `sdxl_stream/1` of the server's model repository, see `plain_pipeline.load`.
    """

    name = "plain pipeline"

    def __init__(self, folder: Path) -> None:
        # One thread for good: PyTorch keeps a pool of threads for each thread that calls it.
        self._thread = ThreadPoolExecutor(1, "plain-pipeline")
        # Loaded before anything else is: two threads that import the same libraries get in each other's way.
        try:
            self._pipeline = self._thread.submit(_load_pipeline, folder).result()
        except Exception as error:  # the loader's own, which can be imported only from `folder`
            raise BenchmarkError(f"the {self.name} could not be loaded: {error}") from error

    async def draw(self, request: ImageRequest) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._draw, request)

    async def steps(self) -> None:
        return None

    def close(self) -> None:
        """Lets go of the model's memory."""
        self._thread.shutdown(cancel_futures=True)
        del self._pipeline

    def _draw(self, request: ImageRequest) -> bytes:
        try:
            files = plain_pipeline.draw(
                self._pipeline,
                [request.prompt],
                [request.seed],
                width=request.side,
                height=request.side,
                steps=request.steps,
                guidance_scale=GUIDANCE_SCALE,
            )
        except Exception as error:
            raise DrawingFailed(f"{self.name}: {error!r}") from error
        return files[0]


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


def _load_pipeline(folder: Path) -> Any:
    import torch

    _quieten()
    # A thread starts with the number that any other thread set last: the engine's decoding thread takes half the cores.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return plain_pipeline.load(folder)


def _quieten() -> None:
    """Keeps the libraries from saying what they do while they load."""
    os.environ.update(TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    warnings.simplefilter("ignore", FutureWarning)
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
