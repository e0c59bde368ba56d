"""With what vLLM's engine is started; that it starts is what the integration tests see."""

import os
from collections.abc import Iterator
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
