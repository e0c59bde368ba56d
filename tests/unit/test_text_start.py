"""With what vLLM's engine is started; that it starts is what the integration tests see."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vllm import envs
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from text_backend.start import start_engine

TINY_GEMMA = Path(__file__).parents[2] / "models" / "tiny-gemma"
CHUNK, METHOD = "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE", "VLLM_WORKER_MULTIPROC_METHOD"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (CHUNK, METHOD):
        monkeypatch.setenv(name, "")  # which has it set back afterwards
        monkeypatch.delenv(name)
    yield
    envs.disable_envs_cache()


@pytest.fixture
def configurations(monkeypatch: pytest.MonkeyPatch) -> list[VllmConfig]:
    """What engines were started with."""
    found: list[VllmConfig] = []
    monkeypatch.setattr(AsyncLLM, "from_vllm_config", lambda config, **_: found.append(config))
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, UsageContext | None]]:
    """Of each start: the outputs vLLM hands out at a time, how it makes processes, and what it takes itself for."""
    found: list[tuple[int, str, UsageContext | None]] = []
    contexts: list[UsageContext | None] = []
    create = AsyncEngineArgs.create_engine_config

    def creating(self: AsyncEngineArgs, usage_context: UsageContext | None = None, **more: Any) -> VllmConfig:
        contexts.append(usage_context)
        return create(self, usage_context, **more)

    def starting(config: VllmConfig, **_: Any) -> None:
        found.append((envs.VLLM_V1_OUTPUT_PROC_CHUNK_SIZE, envs.VLLM_WORKER_MULTIPROC_METHOD, contexts[-1]))

    monkeypatch.setattr(AsyncEngineArgs, "create_engine_config", creating)
    monkeypatch.setattr(AsyncLLM, "from_vllm_config", starting)
    return found


def arguments() -> AsyncEngineArgs:
    return AsyncEngineArgs(model=str(TINY_GEMMA), dtype="float32", max_model_len=256, max_num_seqs=300)


def test_every_start_has_the_settings_of_a_server_and_takes_steps_whole(seen: list[Any]) -> None:
    start_engine(arguments(), fork=True)
    assert hasattr(envs.__getattr__, "cache_info")  # looked up once from now on, not for each token
    start_engine(arguments(), fork=False)
    server = UsageContext.OPENAI_API_SERVER
    assert seen == [(300, "fork", server), (300, "spawn", server)]


def test_how_many_outputs_are_handed_out_at_a_time_can_be_set(seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHUNK, "7")
    start_engine(arguments(), fork=False)
    assert [handed_out for handed_out, _, _ in seen] == [7]
    assert os.environ[CHUNK] == "7"


def scheduled_tokens(configurations: list[VllmConfig], **changes: Any) -> tuple[int | None, int]:
    """The most tokens that a step takes (None: as many as the worker can), and that the worker can."""
    start_engine(replace(arguments(), **changes), fork=False)
    scheduler = configurations[-1].scheduler_config
    return scheduler.max_num_scheduled_tokens, scheduler.max_num_batched_tokens


def test_on_a_cpu_a_step_takes_few_prompt_tokens_beside_one_for_each_sequence(configurations: list[VllmConfig]) -> None:
    assert scheduled_tokens(configurations) == (300 + 128, 2048)
    assert scheduled_tokens(configurations, max_num_seqs=16) == (384, 2048)
    assert scheduled_tokens(configurations, max_num_seqs=2000) == (2048, 2048)


@pytest.mark.parametrize(
    ("asked_for", "taken"),
    [
        ({"max_num_scheduled_tokens": 700}, (700, 2048)),
        ({"max_num_batched_tokens": 4096}, (None, 4096)),
        ({"enable_chunked_prefill": False}, (None, 2048)),  # a prompt is read in one step then, however long
        ({"disable_chunked_mm_input": True}, (None, 2048)),
    ],
)
def test_how_many_tokens_a_step_takes_can_be_set(
    asked_for: dict[str, Any], taken: tuple[int | None, int], configurations: list[VllmConfig]
) -> None:
    assert scheduled_tokens(configurations, **asked_for) == taken


def test_an_engine_that_takes_anothers_place_has_the_same_bound(configurations: list[VllmConfig]) -> None:
    same = arguments()
    for fork in (True, False):
        start_engine(same, fork=fork)
    assert [one.scheduler_config.max_num_scheduled_tokens for one in configurations] == [428, 428]
