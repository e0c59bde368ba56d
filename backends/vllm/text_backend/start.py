"""How vLLM's engine is started: in how many processes, and how those are made.

vLLM runs the scheduler and each worker in a process of their own, and on a CPU it spawns them: every one imports
torch and vllm anew, and between scheduler and worker each step crosses shared memory that both sides poll. With
one worker on a CPU that costs seconds of each start and, where cores are few, most of the speed. There the worker
runs inside the scheduler's process instead, and the first engine of this process is forked from it.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy

import torch
from vllm import envs
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.utils.cpu_resource_utils import get_visible_memory_node
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.engine import core_client
from vllm.v1.engine.async_llm import AsyncLLM

from text_backend.pacing import hand_out_whole_steps

# By its full name: vLLM turns the short one, "uni", into "mp" on a CPU, because only a process started after the
# OpenMP settings obeys them. `_openmp_threads` sees to that here.
_WORKER_IN_SCHEDULER = "vllm.v1.executor.uniproc_executor.UniProcExecutor"

_HANDSHAKE_TIMEOUT = 60  # seconds
_TOKENS_A_STEP = 384  # on a CPU, at most, or
_PROMPT_TOKENS_A_STEP = 128  # beside a token for each sequence, if that is more


def start_engine(args: AsyncEngineArgs, *, fork: bool) -> AsyncLLM:
    """A new engine; its processes are children of the calling thread.

    Args:
        args: The model's engine arguments.
        fork: Make the engine's process a copy of this one, in which no other thread may have done any work yet. Only if
            the engine `fits_one_process`.

    Raises:
        Exception: What vLLM raises when a model cannot be loaded.
    """
    envs.disable_envs_cache()  # which an engine before this one has left, and settings change below
    with ExitStack() as settings:
        is_one_process = fits_one_process(args)
        if is_one_process:
            args.distributed_executor_backend = _WORKER_IN_SCHEDULER
        # Without it vLLM would take 2048 prompt tokens a step on any GPU, where `vllm serve` takes 8192 on an H100.
        config = copy(args).create_engine_config(UsageContext.OPENAI_API_SERVER)  # it writes what it decides into them
        if current_platform.is_cpu():
            _bound_steps(args, config)
        if is_one_process:
            settings.enter_context(_openmp_threads(config))
            settings.enter_context(_start_method("fork" if fork else "spawn"))
        if fork:
            settings.enter_context(_bounded_handshake())
        hand_out_whole_steps(config.scheduler_config.max_num_seqs)
        engine = AsyncLLM.from_vllm_config(
            config, enable_log_requests=args.enable_log_requests, disable_log_stats=args.disable_log_stats
        )
    envs.enable_envs_cache()  # vLLM looks one up for each token
    return engine


def spare_what_is_loaded() -> None:
    """Has the garbage collector leave out what is there now, but for what an engine before this one has left: going
    through all of it takes 0.4 s, in which no text is sent.
    """
    gc.unfreeze()
    freeze_gc_heap()
    gc.set_threshold(20_000, 10, 10)  # for what is young it comes less often, too: 4% more tokens/s


def fits_one_process(args: AsyncEngineArgs) -> bool:
    """Whether scheduler and worker share a process, which can then be forked from this one."""
    workers = args.tensor_parallel_size * args.pipeline_parallel_size * args.data_parallel_size
    asked_for = args.distributed_executor_backend
    return (
        current_platform.is_cpu()
        and workers == 1
        and asked_for in (None, _WORKER_IN_SCHEDULER)
        and len(get_visible_memory_node()) == 1  # with more, threads belong on the cores beside their memory
    )


def _bound_steps(args: AsyncEngineArgs, config: VllmConfig) -> None:
    """A step takes fewer prompt tokens than vLLM would have it take, so that streams do not wait long for one.

    vLLM's 2048 tokens are many for a CPU: all streams pause while a step reads the prompts that came together. What
    the model's own arguments bound stays as it is, and prompts that must not be split, or only at whole blocks, are
    left to vLLM.
    """
    if args.max_num_scheduled_tokens is not None or args.max_num_batched_tokens is not None:
        return
    scheduler, model = config.scheduler_config, config.model_config
    can_split = scheduler.enable_chunked_prefill and not scheduler.disable_chunked_mm_input and not model.is_hybrid
    if can_split and config.speculative_config is None:
        most = max(_TOKENS_A_STEP, scheduler.max_num_seqs + _PROMPT_TOKENS_A_STEP)
        scheduler.max_num_scheduled_tokens = min(most, scheduler.max_num_batched_tokens)


@contextmanager
def _bounded_handshake() -> Iterator[None]:
    """An engine says first that it has come up and then, over another socket, that it takes requests. For the latter
    vLLM waits ten minutes, in which it does not see the engine's process end.
    """
    before = core_client.VLLM_ENGINE_READY_TIMEOUT_S
    core_client.VLLM_ENGINE_READY_TIMEOUT_S = min(before, _HANDSHAKE_TIMEOUT)
    try:
        yield
    finally:
        core_client.VLLM_ENGINE_READY_TIMEOUT_S = before


@contextmanager
def _openmp_threads(config: VllmConfig) -> Iterator[None]:
    """As many OpenMP threads as vLLM gives a worker: one for each physical core, less one for everything else."""
    layout = OMPProcessManager(config)
    if layout.skip_setup or "OMP_NUM_THREADS" in os.environ:  # the operator's own choice
        yield
        return
    threads = len(layout.cpu_lists[0])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # which a fork inherits,
    os.environ["OMP_NUM_THREADS"] = str(threads)  # and this a spawned process
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _start_method(method: str) -> Iterator[None]:
    """vLLM's CPU platform has set "spawn" by now."""
    before = os.environ["VLLM_WORKER_MULTIPROC_METHOD"]
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = method
    try:
        yield
    finally:
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = before
