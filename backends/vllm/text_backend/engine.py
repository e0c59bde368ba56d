"""vLLM's engine under supervision: its event loop, its requests, and a new engine when one dies."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any

import uvloop
from vllm.config import ModelConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.renderers.params import ChatParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from text_backend.config import ModelSetup, SetupError
from text_backend.errors import Cancelled, InternalError, InvalidArgument, TextError, Unavailable
from text_backend.pacing import Pacer
from text_backend.request import Limits, TextRequest
from text_backend.responses import ResponseBuilder, ResponseStream
from text_backend.start import fits_one_process, spare_what_is_loaded, start_engine
from text_backend.watchdog import Stalled, ended_when_stalled

_CANCELLATION_POLL = 0.25  # seconds; Triton tells a backend of a cancelled request only when asked,
_CANCELLATION_PAUSE = 0.005  # seconds between two questions: each holds the event loop up until Triton has answered
_HEALTH_POLL = 0.2  # seconds
_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 30.0  # seconds between attempts to start a new engine
_STOP_TIMEOUT = 20.0  # seconds for the event loop to end what it runs
_FIRST_ANSWER_TIMEOUT = 60.0  # seconds for an engine that has come up to answer
_STALL_TIMEOUT = 60.0  # seconds without any work after which a copy that comes up is given up
_ENGINE_STOP_TIMEOUT = 5.0  # seconds for vLLM's processes to end
_SHORT_PROMPT = 2_000  # characters, which the event loop tokenizes itself in about a millisecond
_ENGINE_DIED = "the text engine's process died while it served this request; try again"


class EngineState(Enum):
    IDLE = "waiting for a first request"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting after its process died"
    STOPPED = "stopped"


@dataclass
class _Running:
    task: asyncio.Task[None]
    stream: ResponseStream


class TextEngine:
    """Serves `TextRequest`s with one `AsyncLLM` that lives in an event loop of its own.

    `start`, `submit`, `check` and `stop` are called from Triton's threads; all else runs in the event loop.
    The loop's thread is also the one that starts vLLM's processes, and lives as long as they may (see `lifeline`).
    """

    def __init__(self, setup: ModelSetup, logger: Any) -> None:
        self._setup = setup
        self._log = logger
        self._state = EngineState.STARTING
        self._loop = uvloop.new_event_loop()
        self._pacer = Pacer()
        self._thread = threading.Thread(target=self._loop.run_forever, name="text-engine", daemon=True)
        self._running: dict[str, _Running] = {}
        self._numbers = itertools.count(1)
        self._supervision: list[Future[None]] = []
        self._loading: asyncio.Task[None] | None = None
        self._is_first_start = True
        self._llm: AsyncLLM | None = None
        self._load_error: TextError | None = None
        self._lora_requests = {
            name: LoRARequest(name, index, path) for index, (name, path) in enumerate(setup.lora_paths.items(), 1)
        }

    def start(self) -> None:
        """Loads the model, or, if it is lazy, only reads its configuration.

        Raises what vLLM raises if it cannot, `SetupError` if the arguments are wrong.
        """
        self._args = self._engine_args()
        self._thread.start()
        if self._setup.lazy:
            self._state = EngineState.IDLE
            self._set_limits(self._args.create_model_config())
        else:
            asyncio.run_coroutine_threadsafe(self._start_engine(), self._loop).result()
        for watch in (self._watch_health(), self._watch_cancellation()):
            self._supervision.append(asyncio.run_coroutine_threadsafe(watch, self._loop))

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken; a lazy model takes the one that loads it, and those that come meanwhile."""
        if self._state is EngineState.READY:
            return not self._llm.errored
        return self._state in (EngineState.IDLE, EngineState.STARTING) and self._load_error is None

    def check(self) -> None:
        """Raises `Unavailable` when requests cannot be taken now."""
        if self._load_error is not None:
            raise self._load_error
        if not self.is_ready:
            state = EngineState.RESTARTING if self._state is EngineState.READY else self._state
            raise Unavailable(f"the text engine is {state.value}; try again in some seconds")

    def submit(self, request: TextRequest, stream: ResponseStream) -> None:
        """Hands a request over; from now on only the event loop writes to `stream`.

        Raises:
            Unavailable: the engine cannot take it.
        """
        if self._state is not EngineState.IDLE:  # an idle engine tries to load, whatever came of it before
            self.check()
        self._loop.call_soon_threadsafe(self._begin, request, stream)

    def stop(self) -> None:
        """Ends every stream, the engine's processes and the event loop, in bounded time."""
        self._state = EngineState.STOPPED
        if self._thread.is_alive():
            stopped = asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
            try:
                stopped.result(_STOP_TIMEOUT)
            # A timeout means that the loop is busy starting an engine, which ends with this process.
            except Exception as error:
                self._log.log_warn(f"[text] the engine did not stop in order within {_STOP_TIMEOUT:.0f} s: {error!r}")
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_TIMEOUT)

    def _engine_args(self) -> AsyncEngineArgs:
        try:
            args = AsyncEngineArgs(**self._setup.engine_args)
        except TypeError as error:
            raise SetupError(f"model.json: {error}") from None
        if self._setup.lora_paths and current_platform.is_cpu():
            # vLLM 0.32's CPU kernels give a request without an adapter the one in the last slot: keep that one free.
            args.max_loras = max(args.max_loras, len(self._setup.lora_paths) + 1)
        return args

    # --- in the event loop ---

    def _move_to(self, state: EngineState) -> None:
        if self._state is not EngineState.STOPPED:  # from which nothing leads back
            self._state = state

    async def _start_engine(self) -> None:
        # Later other threads of this process have work, and a copy of it might wait for what only they have.
        may_fork = self._is_first_start and not self._setup.lazy and fits_one_process(self._args)
        self._is_first_start = False
        llm = await self._answering_engine(may_fork=may_fork)
        try:
            await asyncio.to_thread(llm.renderer.warmup, _chat_params({}))  # which compiles the template
            for name, adapter in self._lora_requests.items():
                await self._try_adapter(llm, name, adapter)
        except BaseException:
            llm.shutdown(timeout=_ENGINE_STOP_TIMEOUT)
            raise
        self._llm = llm
        self._set_limits(llm.model_config)
        spare_what_is_loaded()
        self._move_to(EngineState.READY)

    async def _answering_engine(self, *, may_fork: bool) -> AsyncLLM:
        """An engine that has answered something; a copy of this process that stalls is replaced by one made anew."""
        if may_fork:
            try:
                # One made anew is not watched: it may wait for other machines, or for weights that come slowly.
                with ended_when_stalled(_STALL_TIMEOUT):
                    return await self._one_engine(fork=True)
            except (Stalled, TimeoutError):
                self._log.log_error("[text] the engine's process stalled while it came up; starting another one")
        return await self._one_engine(fork=False)

    async def _one_engine(self, *, fork: bool) -> AsyncLLM:
        llm = start_engine(self._args, fork=fork)
        try:
            await asyncio.wait_for(llm.get_supported_tasks(), _FIRST_ANSWER_TIMEOUT)
        except BaseException:
            llm.shutdown(timeout=_ENGINE_STOP_TIMEOUT)
            raise
        return llm

    @staticmethod
    async def _try_adapter(llm: AsyncLLM, name: str, adapter: LoRARequest) -> None:
        """Loads an adapter now: one that cannot be loaded would end the engine at its first request."""
        try:
            await llm.add_lora(adapter)
        except Exception as error:
            raise SetupError(f"LoRA adapter {name!r} of {adapter.lora_path} cannot be loaded: {error}") from None

    def _set_limits(self, model: ModelConfig) -> None:
        images = model.multimodal_config.get_limit_per_prompt("image") if model.is_multimodal_model else 0
        self.limits = Limits(model.get_vocab_size(), images, self._setup.lora_paths)

    async def _loaded(self) -> None:
        """Returns when a lazy model is loaded; the first request to ask loads it, for all that wait.

        Raises:
            Unavailable: it could not be loaded; the next request tries again.
        """
        if self._state in (EngineState.IDLE, EngineState.STARTING):
            if self._loading is None:
                self._loading = self._loop.create_task(self._load())
            await asyncio.shield(self._loading)

    async def _load(self) -> None:
        self._move_to(EngineState.STARTING)
        self._load_error = None
        try:
            await self._start_engine()
        except Exception as error:
            self._log.log_error(f"[text] the model could not be loaded: {error!r}")
            self._load_error = Unavailable(f"the model could not be loaded: {error}; try again when that is mended")
            self._move_to(EngineState.IDLE)
            raise self._load_error from None
        finally:
            self._loading = None

    def _begin(self, request: TextRequest, stream: ResponseStream) -> None:
        if self._state in (EngineState.RESTARTING, EngineState.STOPPED):
            stream.fail(self._why_cancelled())
            return
        # By the name a person finds it in logs and traces; the number makes it the only one.
        request_id = f"{request.request_id or 'request'}-{next(self._numbers)}"
        task = self._loop.create_task(self._serve(request_id, request, stream))
        self._running[request_id] = _Running(task, stream)
        task.add_done_callback(lambda _: self._end(request_id))

    def _end(self, request_id: str) -> None:
        # A task that is cancelled before its first step never reaches its own handlers.
        self._running.pop(request_id).stream.fail(self._why_cancelled())

    async def _serve(self, request_id: str, request: TextRequest, stream: ResponseStream) -> None:
        """Runs one request to its one final response, whatever happens on the way."""
        try:
            await self._loaded()
            prompt = await self._render(request)
            builder = ResponseBuilder(request)

            def send(output: RequestOutput) -> None:
                if any(completion.finish_reason == "error" for completion in output.outputs):
                    raise InternalError("the engine failed while it generated this text")
                stream.send(builder.build(output), final=output.finished)

            collector = await self._llm.add_request(
                request_id,
                prompt,
                request.sampling,
                lora_request=self._lora_requests.get(request.lora_name or ""),
                trace_headers=request.trace_headers,
            )
            hold = self._setup.longest_hold if request.longest_hold is None else request.longest_hold
            await self._pacer.deliver(collector, send, hold)
            return
        except asyncio.CancelledError:
            stream.fail(self._why_cancelled())
        except TextError as error:
            stream.fail(error)
        except EngineDeadError:
            stream.fail(Unavailable(_ENGINE_DIED))
        except VLLMClientError as error:
            stream.fail(_refusal(request, error))
        except GracefulHTTPError as error:  # vLLM's own admission limits
            stream.fail(Unavailable(str(error)))
        except Exception as error:
            cause = error.__cause__ or error
            if not self.is_ready:
                stream.fail(Unavailable(_ENGINE_DIED))
            else:
                self._log.log_error(f"[text] request {request_id} failed: {cause!r}")
                stream.fail(InternalError(f"generation failed: {cause!r}"))
        if (
            self._state is EngineState.READY and not self._llm.errored
        ):  # vLLM forgets some of the requests that fail on their way in
            await self._llm.abort(request_id)

    def _why_cancelled(self) -> TextError:
        if self._state is EngineState.RESTARTING:
            return Unavailable(_ENGINE_DIED)
        if self._state is EngineState.STOPPED:
            return Unavailable("the model is being unloaded; try again")
        return Cancelled("the request was cancelled")

    async def _render(self, request: TextRequest) -> Any:
        """The prompt as vLLM wants it: the model's chat template applied, tokenized.

        Raises:
            InvalidArgument: the template refused the messages, or the prompt is beyond the model's context.
        """
        renderer = self._llm.renderer
        try:
            if request.messages is not None:
                chat = _chat_params(request.chat_template_kwargs)
                _, (prompt,) = await renderer.render_chat_async([request.messages], chat)
            else:
                raw: dict[str, Any] = {"prompt": request.prompt}
                if request.images:
                    raw["multi_modal_data"] = {"image": request.images}
                parsed = [parse_model_prompt(self._llm.model_config, raw)]
                if len(request.prompt) <= _SHORT_PROMPT and not request.images:
                    # vLLM's thread for this would wait longer for its turn than it takes here.
                    (prompt,) = renderer.render_cmpl(parsed)
                else:
                    (prompt,) = await renderer.render_cmpl_async(parsed)
        except (ValueError, TypeError, KeyError, NotImplementedError, VLLMClientError) as error:
            name = "text_input" if request.messages is None else "messages"
            words = str(error).replace(self._args.model, "this model")  # whose folder is nobody's business
            raise InvalidArgument(f"{name}: {words}") from None
        return prompt

    async def _watch_cancellation(self) -> None:
        """Asked here, in the writing thread, since a stream must not be asked after its final response."""
        while True:
            running = list(self._running.items())
            for request_id, each in running:
                await asyncio.sleep(max(_CANCELLATION_POLL / len(running), _CANCELLATION_PAUSE))
                try:
                    if each.stream.is_cancelled():
                        each.task.cancel()
                except Exception as error:
                    self._log.log_warn(f"[text] Triton does not tell if request {request_id} is cancelled: {error!r}")
            if not running:
                await asyncio.sleep(_CANCELLATION_POLL)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_POLL)
            if self._state is EngineState.READY and self._llm.errored:
                await self._replace_engine()

    async def _replace_engine(self) -> None:
        self._move_to(EngineState.RESTARTING)
        self._log.log_error("[text] the engine's process died; starting a new one")
        await asyncio.sleep(0)  # for requests that were handed over before the state changed
        await self._end_streams()
        self._shut_down_engine()
        backoff = _FIRST_BACKOFF
        while self._state is EngineState.RESTARTING:
            began = time.monotonic()
            try:
                await self._start_engine()
                self._log.log_info(f"[text] new engine ready after {time.monotonic() - began:.1f} s")
            except Exception as error:
                self._log.log_error(f"[text] no new engine ({error!r}); next attempt in {backoff:.0f} s")
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _shut_down_engine(self) -> None:
        if self._llm is None:
            return
        try:
            self._llm.shutdown(timeout=_ENGINE_STOP_TIMEOUT)
        except Exception as error:
            self._log.log_warn(f"[text] the engine did not shut down in order: {error!r}")

    async def _end_streams(self) -> None:
        """Every stream ends now: by what the engine told it, else cancelled."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=0.5 if self._state is EngineState.RESTARTING else 0)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _shut_down(self) -> None:
        for watch in self._supervision:
            watch.cancel()
        await self._end_streams()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        self._shut_down_engine()


def _chat_params(template_kwargs: dict[str, Any]) -> ChatParams:
    return ChatParams(chat_template_kwargs={"add_generation_prompt": True} | template_kwargs)


def _refusal(request: TextRequest, error: VLLMClientError) -> InvalidArgument:
    """vLLM's refusal of a request, with the name of what was wrong: vLLM names some, not grammars."""
    if name := getattr(error, "parameter", None):
        return InvalidArgument.of(name, getattr(error, "value", None), error.args[0])
    structured = request.sampling.structured_outputs
    return InvalidArgument(f"{'structured_outputs' if structured else 'sampling parameters'}: {error}")
