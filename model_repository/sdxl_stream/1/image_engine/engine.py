"""The image engine: a thread that takes one denoising step after the other, for all requests of a size at once.

`ImageEngine._step` is its whole control flow: drop what was cancelled, pick who makes the next step, start those that
are new, denoise, report, and hand those that are done to other threads, which decode and encode them meanwhile.
"""

import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from enum import Enum
from typing import Any

from image_engine.batching import Batcher
from image_engine.config import ModelSetup
from image_engine.denoising import Drawing
from image_engine.encoding import encode_preview
from image_engine.errors import Cancelled, ImageError, SetupError, Unavailable
from image_engine.finishing import Finisher, explain, reason
from image_engine.job import Job
from image_engine.memory import is_out_of_memory
from image_engine.metrics import Metrics
from image_engine.model import ImageModel
from image_engine.request import ImageRequest
from image_engine.responses import ResponseStream
from image_engine.tracing import Tracer

_STOP_TIMEOUT = 20.0  # seconds


class EngineState(Enum):
    IDLE = "waiting for a first request"
    LOADING = "loading its model"
    READY = "ready"
    STOPPED = "stopped"


class ImageEngine:
    """Draws the images of all requests. `start`, `submit`, `cancel`, `check` and `stop` may be called by any thread;
    all else runs in the engine's own.
    """

    def __init__(self, setup: ModelSetup, metrics: Metrics, logger: Any) -> None:
        self._setup = setup
        self._metrics = metrics
        self._log = logger
        self._tracer = Tracer(logger)
        self._state = EngineState.IDLE
        self._load_error: ImageError | None = None
        self._model: ImageModel | None = None
        self._finisher: Finisher | None = None
        self._jobs: Batcher[Job] = Batcher(self._capacity)
        self._finishing: set[Job] = set()
        self._cancelled_keys: set[str] = set()
        self._changed = threading.Condition()
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="image-engine", daemon=True)
        self._loaded: Future[None] = Future()

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken; a lazy model takes the one that loads it, and those that come meanwhile."""
        return self._state is not EngineState.STOPPED and self._load_error is None

    def start(self) -> None:
        """Loads the model, unless it is lazy. Raises `SetupError` if it cannot."""
        self._thread.start()
        if not self._setup.lazy:
            self._loaded.result()

    def check(self) -> None:
        """Raises `Unavailable` when requests cannot be taken now."""
        if self._load_error is not None:
            raise self._load_error
        if self._state is EngineState.STOPPED or not self._thread.is_alive():
            raise Unavailable.unloading()

    def submit(self, request: ImageRequest, stream: ResponseStream) -> None:
        """Hands a request over; from now on only the engine writes to `stream`.

        Raises:
            Unavailable: Too many requests wait already, or the engine has stopped.
        """
        if self._state is EngineState.STOPPED:
            self.check()
        with self._changed:
            most = self._setup.settings.max_queue_size
            if self._jobs.waiting + len(self._finishing) >= most:
                raise Unavailable(f"{most} image requests wait already, no more are taken now; try again")
            self._jobs.add(Job(request, stream))
            self._changed.notify_all()
        self._count()

    def cancel(self, key: str) -> None:
        """Cancels the request with this `cancel_key`, at the next step."""
        with self._changed:
            self._cancelled_keys.add(key)
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends every stream and the engine's threads, in bounded time."""
        with self._changed:
            self._state = EngineState.STOPPED
            self._changed.notify_all()
        self._thread.join(_STOP_TIMEOUT)
        if self._finisher is not None:
            with self._changed:
                self._changed.wait_for(lambda: not self._finishing, _STOP_TIMEOUT)
            self._finisher.stop()
        self._tracer.stop()

    # --- in the engine's thread ---

    def _run(self) -> None:
        if not self._setup.lazy:
            self._load()
            if self._load_error is not None:
                return
        while self._wait_for_work():
            try:
                self._step()
            except Exception as error:  # a defect: it costs the requests at hand, never the thread
                self._log.log_error(f"[image] the engine failed: {error!r}")
                self._fail(self._all_jobs(), error)
        self._fail(self._all_jobs(), Unavailable.unloading())

    def _wait_for_work(self) -> bool:
        """Returns when there is a step to make; False when the engine is to end."""
        with self._changed:
            while self._state is not EngineState.STOPPED:
                if any(True for _ in self._jobs):
                    return True
                self._cancelled_keys.clear()
                self._changed.wait()
        return False

    def _load(self) -> None:
        """Loads the model; what comes of it is in `_loaded` the first time, and in `_load_error`."""
        self._load_error = None
        self._enter(EngineState.LOADING)
        try:
            self._model = ImageModel.load(self._setup.settings)
            self._finisher = Finisher(self._model, self._finished)
            gc.collect()
            gc.freeze()  # going through all that is loaded would hold a step up for 0.15 s, time and again
            self._enter(EngineState.READY)
            self._log.log_info(f"[image] {self._model.description}")
            if not self._loaded.done():
                self._loaded.set_result(None)
        except Exception as error:
            self._enter(EngineState.IDLE)
            self._load_error = Unavailable(f"the model could not be loaded: {error}; try again when that is mended")
            if not self._loaded.done():
                self._loaded.set_exception(error if isinstance(error, SetupError) else SetupError(repr(error)))

    def _enter(self, state: EngineState) -> None:
        """Nothing follows STOPPED."""
        with self._changed:
            if self._state is not EngineState.STOPPED:
                self._state = state

    def _capacity(self, size: tuple[int, int]) -> int:
        return self._model.budget.capacity(size)

    def _step(self) -> None:
        """One denoising step for all requests of one size that fit."""
        if self._model is None:
            self._load()
            if self._load_error is not None:
                self._fail(self._all_jobs(), self._load_error)
                return
        self._drop_cancelled()
        with self._changed:
            jobs = self._jobs.next_step()
        self._count()
        jobs = [job for job in jobs if job.drawings or self._start(job)]
        if jobs:
            self._denoise(jobs)

    def _drop_cancelled(self) -> None:
        with self._changed:
            jobs, keys = list(self._jobs), self._cancelled_keys
            self._cancelled_keys = set()
        for job in jobs:
            if job.request.cancel_key in keys or self._is_cancelled(job):
                self._fail([job], Cancelled("the request was cancelled"))

    def _is_cancelled(self, job: Job) -> bool:
        """What Triton says of a request; of one that `sdxl` passed on it says nothing."""
        try:
            return not job.request.relayed and job.stream.is_cancelled()
        except Exception as error:
            self._log.log_warn(f"[image] Triton does not tell if {_named([job])} is cancelled: {error!r}")
            return False

    def _start(self, job: Job) -> bool:
        """Encodes the prompt and makes the noise of a request's images; False if that failed and was answered."""
        job.times.started = time.time_ns()
        try:
            job.drawings = self._model.start(job.request)
        except Exception as error:
            self._fail([job], error)
        return bool(job.drawings)

    def _denoise(self, jobs: list[Job]) -> None:
        drawings = [drawing for job in jobs for drawing in job.drawings]
        size = jobs[0].size
        capacity = self._capacity(size)
        for first in range(0, len(drawings), capacity):
            self._denoise_some(drawings[first : first + capacity], jobs)
        alive = [job for job in jobs if not job.stream.finished and self._report(job)]
        done = [job for job in alive if job.denoised]
        self._finishing.update(done)
        for job in done:
            job.times.denoised = time.time_ns()
            self._remove(job)
        for job in done:
            self._finisher.finish(job)

    def _denoise_some(self, drawings: Sequence[Drawing], jobs: Sequence[Job]) -> None:
        """A UNet call. One that runs out of memory is done again in halves, down to single images, which fail alone."""
        steps = [drawing.step for drawing in drawings]
        try:
            with self._metrics.step(len(drawings)):
                self._model.denoise(drawings)
            return
        except Exception as error:
            failure = error.with_traceback(None)  # which would keep the tensors of the call
        left = [drawing for drawing, step in zip(drawings, steps, strict=True) if drawing.step == step]
        if is_out_of_memory(failure) and len(left) > 1:
            self._model.budget.lower(jobs[0].size, len(drawings))
            self._model.denoiser.release_graphs()
            self._model.free_memory()
            half = len(left) // 2
            self._denoise_some(left[:half], jobs)
            self._denoise_some(left[half:], jobs)
        else:
            self._fail([job for job in jobs if any(drawing in left for drawing in job.drawings)], failure)

    def _report(self, job: Job) -> bool:
        """Tells of the step that was done; False if that failed and was answered."""
        if job.request.relayed:
            return True
        try:
            previews = []
            if job.wants_preview:
                pictures = [self._model.decoder.preview(drawing.latents) for drawing in job.drawings]
                previews = [encode_preview(picture, job.request) for picture in pictures]
            job.stream.send_step(job.step, job.total_steps, previews)
        except Exception as error:
            self._fail([job], error)
            return False
        return True

    def _remove(self, job: Job) -> None:
        with self._changed:
            self._jobs.remove(job)

    def _all_jobs(self) -> list[Job]:
        with self._changed:
            return list(self._jobs)

    def _count(self) -> None:
        with self._counting:  # so that the last numbers that are set are the last that were read
            with self._changed:
                waiting, running = self._jobs.waiting, self._jobs.running + len(self._finishing)
            self._metrics.requests(waiting=waiting, running=running)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        if not isinstance(error, ImageError):
            self._log.log_error(f"[image] {_named(jobs)} failed: {error!r}")
        for job in jobs:
            self._remove(job)
            if not job.stream.finished:
                job.stream.fail(explain(error, job))
                self._metrics.failed(reason(error))
                self._tracer.record(job, reason(error))
        self._count()

    def _finished(self, job: Job, error: Exception | None) -> None:
        """Called by the finisher's threads."""
        with self._changed:
            self._finishing.discard(job)
            self._changed.notify_all()
        self._count()
        if error is None:
            self._metrics.sent(job.image_count)
        else:
            self._metrics.failed(reason(error))
            if not isinstance(error, ImageError):
                self._log.log_error(f"[image] {_named([job])} failed after its last step: {error!r}")
        self._tracer.record(job, None if error is None else reason(error))


def _named(jobs: Sequence[Job]) -> str:
    """Requests by the ids that they came with."""
    ids = ", ".join(job.request.request_id or "(no id)" for job in jobs)
    return f"request {ids}" if len(jobs) == 1 else f"{len(jobs)} requests ({ids})"
